package binary_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	lab "forge.ourworld.tf/lhumina_code/lab/plugin/binary"
	"github.com/matryer/is"
)

var toolScript = []byte("#!/bin/sh\necho works >&2\n")

func header(kind byte, name, target string) member {
	return member{Header: tar.Header{Typeflag: kind, Name: name, Linkname: target}}
}

func mode(m member, mode int64) member {
	m.Mode = mode
	return m
}

// TestTarArchives puts hostile and honest archives to it. None may write
// outside of the store, none may leave anything half done, and every honest
// one is installed.
func TestTarArchives(t *testing.T) {
	t.Parallel()
	tool := regular("tool", toolScript)
	ok := lab.Class("")
	many := []member{tool}
	for range quick.MaxFiles {
		many = append(many, regular(strings.Repeat("a", len(many)), nil))
	}
	var folders []member
	for i := range quick.MaxFiles {
		folders = append(folders, regular(strings.Repeat("b", i+1)+"/c/f", nil))
	}
	cases := map[string]struct {
		members []member
		class   lab.Class
	}{
		"flat":                  {[]member{regular("LICENSE", nil), tool}, ok},
		"dot slash":             {[]member{header(tar.TypeDir, "./", ""), regular("./tool", toolScript)}, ok},
		"top folder":            {[]member{header(tar.TypeDir, "tool-1.0.0/", ""), regular("tool-1.0.0/tool", toolScript), regular("tool-1.0.0/README", nil)}, ok},
		"top folder not listed": {[]member{regular("tool-1.0.0/tool", toolScript)}, ok},
		"folders listed twice":  {[]member{header(tar.TypeDir, "d/", ""), header(tar.TypeDir, "d/", ""), tool}, ok},
		"empty file":            {[]member{regular("empty", nil), tool}, ok},
		"inner symlink":         {[]member{tool, header(tar.TypeSymlink, "alias", "tool")}, ok},
		"inner link to folder":  {[]member{tool, regular("lib1/x", nil), header(tar.TypeSymlink, "lib", "./lib1/")}, ok},
		"symlink in top folder": {[]member{regular("t/tool", toolScript), regular("t/a/x", nil), header(tar.TypeSymlink, "t/b/x", "../a/x")}, ok},
		"link before its file":  {[]member{header(tar.TypeSymlink, "alias", "tool"), tool}, ok},
		"chain inside":          {[]member{tool, header(tar.TypeSymlink, "a", "b"), header(tar.TypeSymlink, "b", "tool")}, ok},
		"inner hard link":       {[]member{tool, header(tar.TypeLink, "alias", "tool")}, ok},
		"executable is a link":  {[]member{regular("lib/tool-1", toolScript), header(tar.TypeSymlink, "tool", "lib/tool-1")}, ok},
		"no exec bit":           {[]member{mode(tool, 0o600)}, ok},
		"case differs":          {[]member{tool, regular("TOOL", nil)}, ok},
		"spaces and umlauts":    {[]member{tool, regular("Lies mich – zuerst.txt", nil)}, ok},
		"global header":         {[]member{{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "abc"}}}, tool}, ok},

		"dot dot":                   {[]member{tool, regular("../escape", nil)}, lab.UnsafePath},
		"dot dot inside":            {[]member{tool, regular("a/../../escape", nil)}, lab.UnsafePath},
		"dot dot that stays":        {[]member{tool, regular("a/../b", nil)}, lab.UnsafePath},
		"dot dot folder":            {[]member{tool, header(tar.TypeDir, "../escape/", "")}, lab.UnsafePath},
		"absolute":                  {[]member{tool, regular("/escape", nil)}, lab.UnsafePath},
		"two slashes":               {[]member{tool, regular("//escape", nil)}, lab.UnsafePath},
		"backslash":                 {[]member{tool, regular(`..\escape`, nil)}, lab.UnsafePath},
		"drive letter":              {[]member{tool, regular("C:escape", nil)}, lab.UnsafePath},
		"empty name":                {[]member{tool, regular("", nil)}, lab.UnsafePath},
		"a file named dot":          {[]member{tool, regular(".", nil)}, lab.UnsafePath},
		"newline":                   {[]member{tool, regular("a\nb", nil)}, lab.UnsafePath},
		"escape sequence":           {[]member{tool, regular("\x1b[2J", nil)}, lab.UnsafePath},
		"right to left":             {[]member{tool, regular("a\u202egnp.sh", nil)}, lab.UnsafePath},
		"not UTF-8":                 {[]member{tool, regular("\xff\xfe", nil)}, lab.UnsafePath},
		"over-long element":         {[]member{tool, regular(strings.Repeat("x", 256), nil)}, lab.UnsafePath},
		"over-long path":            {[]member{tool, regular(strings.Repeat("x/", 600)+"x", nil)}, lab.UnsafePath},
		"too deep":                  {[]member{tool, regular("1/2/3/4/5/6/7/8/9", nil)}, lab.LimitExceeded},
		"many tiny members":         {many, lab.LimitExceeded},
		"many folders":              {folders, lab.LimitExceeded},
		"bomb":                      {[]member{tool, regular("bomb", make([]byte, quick.MaxBytes))}, lab.LimitExceeded},
		"symlink out":               {[]member{tool, header(tar.TypeSymlink, "out", "../../../etc")}, lab.UnsafeLink},
		"symlink absolute":          {[]member{tool, header(tar.TypeSymlink, "out", "/etc")}, lab.UnsafeLink},
		"symlink to the top":        {[]member{regular("t/tool", toolScript), header(tar.TypeSymlink, "t/out", "../t/tool")}, lab.UnsafeLink},
		"symlink, written through":  {[]member{tool, header(tar.TypeSymlink, "out", "/var"), regular("out/escape", nil)}, lab.UnsafeLink},
		"inner, written through":    {[]member{tool, header(tar.TypeSymlink, "d", "."), regular("d/x", nil)}, lab.UnsafeLink},
		"symlink, then file":        {[]member{tool, header(tar.TypeSymlink, "out", "/escape"), regular("out", nil)}, lab.DuplicateEntry},
		"file, then symlink":        {[]member{tool, header(tar.TypeSymlink, "tool", "/bin/sh")}, lab.DuplicateEntry},
		"swapped folder":            {[]member{tool, regular("d/x", nil), header(tar.TypeSymlink, "d", "/var")}, lab.DuplicateEntry},
		"dangling":                  {[]member{tool, header(tar.TypeSymlink, "a", "nowhere")}, lab.UnsafeLink},
		"loop":                      {[]member{tool, header(tar.TypeSymlink, "a", "b"), header(tar.TypeSymlink, "b", "a")}, lab.UnsafeLink},
		"link to itself":            {[]member{tool, header(tar.TypeSymlink, "a", "a")}, lab.UnsafeLink},
		"chain out":                 {[]member{tool, regular("d/e/x", nil), header(tar.TypeSymlink, "up", "d/e"), header(tar.TypeSymlink, "d/e/out", "../../up/../../../x")}, lab.UnsafeLink},
		"empty target":              {[]member{tool, header(tar.TypeSymlink, "a", "")}, lab.UnsafeLink},
		"executable links out":      {[]member{header(tar.TypeSymlink, "tool", "/bin/sh")}, lab.UnsafeLink},
		"hard link out":             {[]member{tool, header(tar.TypeLink, "a", "../../../etc/passwd")}, lab.UnsafeLink},
		"hard link absolute":        {[]member{tool, header(tar.TypeLink, "a", "/etc/passwd")}, lab.UnsafeLink},
		"hard link to a link":       {[]member{tool, header(tar.TypeSymlink, "s", "tool"), header(tar.TypeLink, "a", "s")}, lab.UnsafeLink},
		"hard link to nothing":      {[]member{tool, header(tar.TypeLink, "a", "b")}, lab.UnsafeLink},
		"hard link over a file":     {[]member{tool, regular("a", nil), header(tar.TypeLink, "a", "tool")}, lab.DuplicateEntry},
		"character device":          {[]member{tool, header(tar.TypeChar, "null", "")}, lab.UnsafeType},
		"block device":              {[]member{tool, header(tar.TypeBlock, "sda", "")}, lab.UnsafeType},
		"pipe":                      {[]member{tool, header(tar.TypeFifo, "pipe", "")}, lab.UnsafeType},
		"unknown type":              {[]member{tool, header('V', "volume", "")}, lab.UnsafeType},
		"setuid":                    {[]member{mode(tool, 0o4755)}, lab.UnsafeMode},
		"setgid":                    {[]member{mode(tool, 0o2755)}, lab.UnsafeMode},
		"sticky":                    {[]member{mode(tool, 0o1755)}, lab.UnsafeMode},
		"duplicate":                 {[]member{tool, regular("tool", []byte("#!/bin/sh\necho worm\n"))}, lab.DuplicateEntry},
		"duplicate by another name": {[]member{tool, regular("./tool", nil)}, lab.DuplicateEntry},
		"file over folder":          {[]member{tool, regular("d/x", nil), regular("d", nil)}, lab.DuplicateEntry},
		"folder over file":          {[]member{tool, regular("d", nil), regular("d/x", nil)}, lab.DuplicateEntry},
		"a receipt of its own":      {[]member{tool, regular("receipt.json", []byte("{}"))}, lab.DuplicateEntry},
		"no executable":             {[]member{regular("README", nil)}, lab.MissingBinary},
		"executable elsewhere":      {[]member{regular("README", nil), regular("bin/tool", toolScript)}, lab.MissingBinary},
		"executable is a folder":    {[]member{header(tar.TypeDir, "tool/", "")}, lab.MissingBinary},
		"executable links folder":   {[]member{regular("d/x", nil), header(tar.TypeSymlink, "tool", "d")}, lab.NotExecutable},
		"no member":                 {nil, lab.MissingBinary},
		"script without shebang":    {[]member{regular("tool", []byte("echo worm\n"))}, lab.NotExecutable},
		"script, strange shebang":   {[]member{regular("tool", []byte("#!sh\necho worm\n"))}, lab.NotExecutable},
		"empty executable":          {[]member{regular("tool", nil)}, lab.NotExecutable},
		"web page in the archive":   {[]member{regular("tool", []byte("<html>"))}, lab.BadContent},
		"damaged ELF":               {[]member{regular("tool", []byte("\x7fELFxxxx"))}, lab.NotExecutable},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			put(t, "/tool.tar.gz", gzipped(t, tarball(t, c.members...)), c.class)
		})
	}
	t.Run("sparse", func(t *testing.T) {
		t.Parallel()
		// The writer refuses to make one: rename the record of another.
		plain := regular("hole", nil)
		plain.Format = tar.FormatPAX
		plain.PAXRecords = map[string]string{"LAB.sparse.zzzzz": "1"}
		archive := bytes.ReplaceAll(tarball(t, tool, plain), []byte("LAB.sparse.zzzzz"), []byte("GNU.sparse.zzzzz"))
		put(t, "/tool.tar.gz", gzipped(t, archive), lab.UnsafeType)
	})
}

// put serves the content, acquires it and checks the class of the error; none
// where it is to be installed. Nothing may appear outside of the store.
func put(t *testing.T, path string, content []byte, class lab.Class) {
	t.Helper()
	is := is.New(t)
	upstream := newReleases(t)
	upstream.put(path, content)
	around := t.TempDir()
	dir := filepath.Join(around, "a", "store")
	is.NoErr(os.MkdirAll(dir, 0o755))
	spec := pinned(upstream.URL+path, content)
	got, err := lab.NewStore(dir, lab.Options{Limits: quick}).Acquire(t.Context(), spec, nil)
	is.Equal(len(leftovers(t, dir)), 0)
	outside, globErr := filepath.Glob(filepath.Join(around, "*"))
	is.NoErr(globErr)
	is.Equal(len(outside), 1)
	outside, globErr = filepath.Glob(filepath.Join(around, "a", "*"))
	is.NoErr(globErr)
	is.Equal(len(outside), 1)
	if class != "" {
		wantClass(t, err, class)
		_, err := os.Stat(filepath.Join(dir, "tool", "1.0.0"))
		is.True(os.IsNotExist(err))
		return
	}
	is.NoErr(err)
	runs(t, got)
	is.NoErr(filepath.WalkDir(filepath.Dir(got.Path), func(path string, e fs.DirEntry, err error) error {
		if info, infoErr := e.Info(); infoErr == nil && info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	}))
	_, err = lab.NewStore(dir, lab.Options{}).Lookup(spec)
	is.NoErr(err)
}

func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	plain := tarball(t, regular("tool", toolScript))
	archive := gzipped(t, plain)
	flip := func(content []byte, at int) []byte {
		content = bytes.Clone(content)
		content[at] ^= 0x55
		return content
	}
	ok := lab.Class("")
	cases := map[string]struct {
		path    string
		content []byte
		class   lab.Class
	}{
		"whole":                    {"/tool.tgz", archive, ok},
		"two gzip streams":         {"/tool.tgz", append(gzipped(t, plain[:700]), gzipped(t, plain[700:])...), ok},
		"padded":                   {"/tool.tgz", gzipped(t, append(bytes.Clone(plain), make([]byte, 10240)...)), ok},
		"raw":                      {"/tool", toolScript, ok},
		"raw, a dotted name":       {"/tool-1.0.0.linux-amd64", toolScript, ok},
		"gz":                       {"/tool.gz", gzipped(t, toolScript), ok},
		"cut":                      {"/tool.tgz", archive[:len(archive)/2], lab.CorruptArchive},
		"cut in the trailer":       {"/tool.tgz", archive[:len(archive)-4], lab.CorruptArchive},
		"wrong checksum in it":     {"/tool.tgz", flip(archive, len(archive)-6), lab.CorruptArchive},
		"garbage behind":           {"/tool.tgz", append(bytes.Clone(archive), "garbage"...), lab.CorruptArchive},
		"content behind the end":   {"/tool.tgz", gzipped(t, append(bytes.Clone(plain), bytes.Repeat([]byte("worm"), 512)...)), lab.CorruptArchive},
		"zeros behind, a bomb":     {"/tool.tgz", gzipped(t, append(bytes.Clone(plain), make([]byte, 20<<20)...)), lab.LimitExceeded},
		"tar header damaged":       {"/tool.tgz", gzipped(t, flip(plain, 10)), lab.CorruptArchive},
		"tar cut":                  {"/tool.tgz", gzipped(t, plain[:520]), lab.CorruptArchive},
		"not gzip":                 {"/tool.tar.gz", plain, lab.BadContent},
		"not a tar":                {"/tool.tar.gz", gzipped(t, bytes.Repeat([]byte("x"), 2048)), lab.CorruptArchive},
		"empty file":               {"/tool.tar.gz", nil, lab.BadContent},
		"web page":                 {"/tool.tar.gz", []byte("<!doctype html>"), lab.BadContent},
		"raw web page":             {"/tool", []byte("<!doctype html>"), lab.BadContent},
		"gz bomb":                  {"/tool.gz", gzipped(t, make([]byte, 20<<20)), lab.LimitExceeded},
		"a package":                {"/tool.deb", toolScript, lab.BadContent},
		"a format of a later time": {"/tool.tar.zst", toolScript, lab.BadContent},
		"bzip2, damaged":           {"/tool.tar.bz2", []byte("BZh91AY&SYxxxx"), lab.CorruptArchive},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			put(t, c.path, c.content, c.class)
		})
	}
}

// zipMember is a member of a zip archive.
type zipMember struct {
	zip.FileHeader
	content string
	mode    fs.FileMode
}

func zipped(t *testing.T, members ...zipMember) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, m := range members {
		if m.mode != 0 {
			m.SetMode(m.mode)
		}
		f, err := w.CreateHeader(&m.FileHeader)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(m.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestZipArchives(t *testing.T) {
	t.Parallel()
	file := func(name, content string, mode fs.FileMode) zipMember {
		return zipMember{FileHeader: zip.FileHeader{Name: name, Method: zip.Deflate}, content: content, mode: mode}
	}
	tool := file("tool", string(toolScript), 0o755)
	whole := zipped(t, tool)
	encrypted := bytes.Clone(whole)
	encrypted[bytes.Index(encrypted, []byte("PK\x01\x02"))+8] |= 1
	ok := lab.Class("")
	cases := map[string]struct {
		content []byte
		class   lab.Class
	}{
		"flat":            {whole, ok},
		"no modes":        {zipped(t, file("tool", string(toolScript), 0)), ok},
		"top folder":      {zipped(t, zipMember{FileHeader: zip.FileHeader{Name: "t/"}}, file("t/tool", string(toolScript), 0o755)), ok},
		"symlink":         {zipped(t, tool, file("alias", "tool", fs.ModeSymlink|0o777)), ok},
		"dot dot":         {zipped(t, tool, file("../escape", "", 0o644)), lab.UnsafePath},
		"absolute":        {zipped(t, tool, file("/escape", "", 0o644)), lab.UnsafePath},
		"backslash":       {zipped(t, tool, file(`..\escape`, "", 0o644)), lab.UnsafePath},
		"symlink out":     {zipped(t, tool, file("out", "/etc", fs.ModeSymlink|0o777)), lab.UnsafeLink},
		"written through": {zipped(t, tool, file("out", "/var", fs.ModeSymlink|0o777), file("out/x", "", 0o644)), lab.UnsafeLink},
		"endless target":  {zipped(t, tool, file("out", strings.Repeat("a", 5000), fs.ModeSymlink|0o777)), lab.UnsafeLink},
		"device":          {zipped(t, tool, file("null", "", fs.ModeDevice|fs.ModeCharDevice|0o666)), lab.UnsafeType},
		"setuid":          {zipped(t, file("tool", string(toolScript), fs.ModeSetuid|0o755)), lab.UnsafeMode},
		"duplicate":       {zipped(t, tool, file("tool", "worm", 0o755)), lab.DuplicateEntry},
		"bomb":            {zipped(t, tool, file("bomb", strings.Repeat("\x00", 20<<20), 0o644)), lab.LimitExceeded},
		"encrypted":       {encrypted, lab.CorruptArchive},
		"cut":             {whole[:len(whole)-30], lab.CorruptArchive},
		"not a zip":       {[]byte("PK but not really"), lab.CorruptArchive},
		"no executable":   {zipped(t, file("README", "", 0o644)), lab.MissingBinary},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			put(t, "/tool.zip", c.content, c.class)
		})
	}
}

// elfOf returns the beginning of an ELF file of that kind.
func elfOf(class elf.Class, machine elf.Machine, abi elf.OSABI, kind elf.Type) []byte {
	out := make([]byte, 64)
	copy(out, elf.ELFMAG)
	out[elf.EI_CLASS], out[elf.EI_DATA], out[elf.EI_VERSION], out[elf.EI_OSABI] = byte(class), byte(elf.ELFDATA2LSB), 1, byte(abi)
	le := binary.LittleEndian
	le.PutUint16(out[16:], uint16(kind))
	le.PutUint16(out[18:], uint16(machine))
	le.PutUint32(out[20:], 1)
	if class == elf.ELFCLASS64 {
		le.PutUint64(out[24:], 0x401000)
		le.PutUint16(out[52:], 64)
		le.PutUint16(out[54:], 56)
		le.PutUint16(out[58:], 64)
		return out
	}
	le.PutUint32(out[24:], 0x401000)
	le.PutUint16(out[40:], 52)
	le.PutUint16(out[42:], 32)
	le.PutUint16(out[46:], 40)
	return out[:52]
}

func TestExecutablesForWhichMachine(t *testing.T) {
	t.Parallel()
	ok := lab.Class("")
	amd64 := elfOf(elf.ELFCLASS64, elf.EM_X86_64, elf.ELFOSABI_NONE, elf.ET_EXEC)
	pe := make([]byte, 512)
	copy(pe, "MZ")
	machO := []byte("\xcf\xfa\xed\xfe\x0c\x00\x00\x01\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	cases := map[string]struct {
		os, arch string
		content  []byte
		class    lab.Class
	}{
		"right":             {"linux", "amd64", amd64, ok},
		"Linux by name":     {"linux", "amd64", elfOf(elf.ELFCLASS64, elf.EM_X86_64, elf.ELFOSABI_LINUX, elf.ET_DYN), ok},
		"32 bit ARM":        {"linux", "arm", elfOf(elf.ELFCLASS32, elf.EM_ARM, elf.ELFOSABI_NONE, elf.ET_EXEC), ok},
		"other processor":   {"linux", "arm64", amd64, lab.WrongArch},
		"other class":       {"linux", "amd64", elfOf(elf.ELFCLASS32, elf.EM_X86_64, elf.ELFOSABI_NONE, elf.ET_EXEC), lab.WrongArch},
		"other system":      {"linux", "amd64", elfOf(elf.ELFCLASS64, elf.EM_X86_64, elf.ELFOSABI_FREEBSD, elf.ET_EXEC), lab.WrongArch},
		"unknown processor": {"linux", "vax", amd64, lab.WrongArch},
		"ELF on a Mac":      {"darwin", "amd64", amd64, lab.WrongArch},
		"object file":       {"linux", "amd64", elfOf(elf.ELFCLASS64, elf.EM_X86_64, elf.ELFOSABI_NONE, elf.ET_REL), lab.NotExecutable},
		"core dump":         {"linux", "amd64", elfOf(elf.ELFCLASS64, elf.EM_X86_64, elf.ELFOSABI_NONE, elf.ET_CORE), lab.NotExecutable},
		"Mach-O":            {"darwin", "arm64", machO, ok},
		"Mach-O, other":     {"darwin", "amd64", machO, lab.WrongArch},
		"Mach-O on Linux":   {"linux", "arm64", machO, lab.WrongArch},
		"PE on Linux":       {"linux", "amd64", pe, lab.WrongArch},
		"PE, damaged":       {"windows", "amd64", append([]byte("MZ"), bytes.Repeat([]byte{0xff}, 100)...), lab.NotExecutable},
		"script on Windows": {"windows", "amd64", toolScript, lab.NotExecutable},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			upstream := newReleases(t)
			upstream.put("/tool", c.content)
			spec := pinned(upstream.URL+"/tool", c.content)
			spec.OS, spec.Arch = c.os, c.arch
			_, err := acquire(t, lab.Options{Limits: quick}, spec)
			if c.class == ok {
				is.NoErr(err)
				return
			}
			wantClass(t, err, c.class)
		})
	}
}

package binary

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
)

// The formats that can be unpacked.
const (
	formatTarGz  = "tar.gz"
	formatTarBz2 = "tar.bz2"
	formatZip    = "zip"
	formatGz     = "gz"
	formatRaw    = "raw"
)

// formatOf returns the format of a release: the one that is given, or the one
// that the file's name tells. A name that tells none is the executable itself.
func formatOf(given, file string) (string, error) {
	endings := []struct{ ending, format string }{
		{".tar.gz", formatTarGz}, {".tgz", formatTarGz}, {".tar.bz2", formatTarBz2}, {".tbz2", formatTarBz2},
		{".zip", formatZip}, {".gz", formatGz},
	}
	known := []string{formatTarGz, formatTarBz2, formatZip, formatGz, formatRaw}
	format := given
	if given == "" {
		format = formatRaw
		for _, e := range endings {
			if strings.HasSuffix(strings.ToLower(file), e.ending) {
				format = e.format
				break
			}
		}
		for _, other := range []string{".xz", ".txz", ".zst", ".tzst", ".bz2", ".7z", ".tar", ".rar", ".deb", ".rpm", ".apk", ".dmg", ".msi", ".pkg"} {
			if format == formatRaw && strings.HasSuffix(strings.ToLower(file), other) {
				format = strings.TrimPrefix(other, ".")
			}
		}
	}
	for _, k := range known {
		if format == k {
			return format, nil
		}
	}
	return "", fail(BadContent, nil, "format %q of %s cannot be unpacked", format, file).hint("formats are %s", strings.Join(known, ", "))
}

// unpack gives the content of the file to the extractor.
func unpack(x *extractor, file *os.File, format, executable string) error {
	magic := map[string]string{formatTarGz: "\x1f\x8b", formatGz: "\x1f\x8b", formatTarBz2: "BZh", formatZip: "PK"}[format]
	start := make([]byte, 512)
	n, err := file.ReadAt(start, 0)
	if err != nil && err != io.EOF {
		return ioError(err, "read a download")
	}
	if start = start[:n]; n == 0 || isMarkup(start) || !bytes.HasPrefix(start, []byte(magic)) {
		return fail(BadContent, nil, "the file is not %s", format)
	}
	if format == formatZip {
		return unzip(x, file)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return ioError(err, "read a download")
	}
	var content io.Reader = bufio.NewReaderSize(file, chunk)
	switch format {
	case formatTarGz, formatGz:
		if content, err = gzip.NewReader(content); err != nil {
			return unpackError(err)
		}
	case formatTarBz2:
		content = bzip2.NewReader(content)
	}
	if format == formatRaw || format == formatGz {
		return x.file(executable, 0o755, content)
	}
	return untar(x, content)
}

// untar unpacks a tar stream, to its very end: what is compressed carries its
// checksum there.
func untar(x *extractor, content io.Reader) error {
	// Headers and padding are not counted as content; they get room of their own.
	whole := &io.LimitedReader{R: content, N: x.limits.MaxBytes + int64(x.limits.MaxFiles)*4096 + chunk}
	archive := tar.NewReader(whole)
	for {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = tarMember(x, header, archive)
		}
		if whole.N <= 0 {
			return fail(LimitExceeded, nil, "the archive unpacks to more than the allowed %d bytes", x.limits.MaxBytes)
		}
		if err != nil {
			return unpackError(err)
		}
	}
	if err := onlyZeros(whole); err != nil {
		return unpackError(err)
	}
	if whole.N <= 0 {
		return fail(LimitExceeded, nil, "the archive has too much behind its end")
	}
	return nil
}

// tarMember unpacks one member.
func tarMember(x *extractor, h *tar.Header, content io.Reader) error {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return fail(UnsafeType, nil, "member %q is a sparse file", shorten(h.Name))
		}
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return x.file(h.Name, h.FileInfo().Mode(), content)
	case tar.TypeDir:
		_, err := x.enter(h.Name, folderMember)
		return err
	case tar.TypeSymlink:
		return x.symlink(h.Name, h.Linkname)
	case tar.TypeLink:
		return x.hardlink(h.Name, h.Linkname)
	case tar.TypeXGlobalHeader:
		return nil // says something about the archive, such as its commit
	}
	return fail(UnsafeType, nil, "member %q is neither file nor folder but of type %q", shorten(h.Name), h.Typeflag)
}

// onlyZeros reads to the end, where an archive may be padded.
func onlyZeros(r io.Reader) error {
	buffer := make([]byte, 32<<10)
	for {
		n, err := r.Read(buffer)
		if len(bytes.Trim(buffer[:n], "\x00")) > 0 {
			return fail(CorruptArchive, nil, "something follows the archive's end")
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// unzip unpacks a zip archive as its central directory describes it.
func unzip(x *extractor, file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return ioError(err, "read a download")
	}
	archive, err := zip.NewReader(file, info.Size())
	if err != nil {
		return unpackError(err)
	}
	for _, f := range archive.File {
		if err := zipMember(x, f); err != nil {
			return unpackError(err)
		}
	}
	return nil
}

// zipMember unpacks one member.
func zipMember(x *extractor, f *zip.File) error {
	mode := f.Mode()
	switch {
	case f.Flags&1 != 0:
		return fail(CorruptArchive, nil, "member %q is encrypted", shorten(f.Name))
	case mode.IsDir():
		_, err := x.enter(f.Name, folderMember)
		return err
	case mode&fs.ModeSymlink == 0 && !mode.IsRegular():
		return fail(UnsafeType, nil, "member %q is neither file nor folder", shorten(f.Name))
	case strings.HasSuffix(f.Name, "/"):
		return fail(UnsafePath, nil, "the name %q of a file is that of a folder", shorten(f.Name))
	}
	content, err := f.Open()
	if err != nil {
		return err
	}
	defer content.Close()
	if mode.IsRegular() {
		return x.file(f.Name, mode, content)
	}
	target, err := io.ReadAll(io.LimitReader(content, longestPath+1))
	if err != nil {
		return err
	}
	return x.symlink(f.Name, string(target))
}

// unpackError returns the error as it is when it says what it is about;
// otherwise the archive is at fault.
func unpackError(err error) error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	if errors.Is(err, tar.ErrInsecurePath) || errors.Is(err, zip.ErrInsecurePath) {
		return fail(UnsafePath, err, "unpack the archive")
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fail(CorruptArchive, nil, "the archive ends early")
	}
	return fail(CorruptArchive, err, "unpack the archive")
}

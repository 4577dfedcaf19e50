package binary

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"strings"
	"syscall"
)

// chunk is how much is written at a time.
const chunk = 1 << 20

// memberKind is what a member of an archive is.
type memberKind int

const (
	folderMember memberKind = iota + 1
	fileMember
	linkMember
)

// extractor writes the members of an archive into a folder and nowhere else.
// It trusts nothing that the archive says: every name is checked, folders are
// made and files written through an [os.Root], existing files are never opened,
// modes are its own, and links are made last, when nothing can be written
// through them any more.
type extractor struct {
	ctx     context.Context // of the one unpacking that the extractor lives for
	root    *os.Root
	limits  Limits
	members map[string]memberKind
	links   map[string]string // symbolic links: name to target
	count   int
	bytes   int64
	buffer  []byte
}

func newExtractor(ctx context.Context, root *os.Root, limits Limits) *extractor {
	return &extractor{
		ctx: ctx, root: root, limits: limits,
		members: map[string]memberKind{}, links: map[string]string{},
		buffer: make([]byte, chunk),
	}
}

// enter checks a member's name and notes the member and the folders above it.
// The root itself, which many archives list, is the name ".".
func (x *extractor) enter(name string, kind memberKind) (string, error) {
	if err := x.ctx.Err(); err != nil {
		return "", fail(Timeout, context.Cause(x.ctx), "unpack")
	}
	if x.count++; x.count > x.limits.MaxFiles {
		return "", x.tooMany()
	}
	if reason := unsafeName(name); reason != "" {
		return "", fail(UnsafePath, nil, "the name %q of a member %s", shorten(name), reason)
	}
	clean := path.Clean(name)
	if depth := strings.Count(clean, "/") + 1; depth > x.limits.MaxDepth {
		return "", fail(LimitExceeded, nil, "member %q is %d folders deep, allowed are %d", shorten(clean), depth, x.limits.MaxDepth)
	}
	if clean == "." {
		if kind != folderMember {
			return "", fail(UnsafePath, nil, "the name %q of a member is that of the folder itself", name)
		}
		return clean, nil
	}
	for i, r := range clean {
		if r != '/' {
			continue
		}
		if err := x.folder(clean[:i]); err != nil {
			return "", err
		}
	}
	if kind == folderMember {
		return clean, x.folder(clean)
	}
	if x.members[clean] != 0 {
		return "", fail(DuplicateEntry, nil, "the archive has %q twice", clean)
	}
	x.members[clean] = kind
	return clean, nil
}

// folder makes a folder, once.
func (x *extractor) folder(name string) error {
	switch x.members[name] {
	case folderMember:
		return nil
	case linkMember:
		return fail(UnsafeLink, nil, "a member lies below the link %q", name)
	case fileMember:
		return fail(DuplicateEntry, nil, "%q is both a file and a folder", name)
	}
	if len(x.members) >= x.limits.MaxFiles {
		return x.tooMany()
	}
	x.members[name] = folderMember
	if err := x.root.Mkdir(name, 0o755); err != nil {
		return writeError(err, name)
	}
	return nil
}

func (x *extractor) tooMany() error {
	return fail(LimitExceeded, nil, "the archive has more than the allowed %d members", x.limits.MaxFiles)
}

// file writes a regular file. Of its mode only counts whether anybody may
// execute it.
func (x *extractor) file(name string, mode fs.FileMode, content io.Reader) error {
	if mode&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0 {
		return fail(UnsafeMode, nil, "member %q is setuid, setgid or sticky", shorten(name))
	}
	name, err := x.enter(name, fileMember)
	if err != nil {
		return err
	}
	perm := fs.FileMode(0o644)
	if mode&0o111 != 0 {
		perm = 0o755
	}
	flag := os.O_CREATE | os.O_EXCL
	for {
		n, err := fill(content, x.buffer)
		if x.bytes += int64(n); x.bytes > x.limits.MaxBytes {
			return fail(LimitExceeded, nil, "the archive unpacks to more than the allowed %d bytes", x.limits.MaxBytes)
		}
		if x.ctx.Err() != nil {
			return fail(Timeout, context.Cause(x.ctx), "unpack")
		}
		if n > 0 || flag != os.O_APPEND {
			if err := writeChunk(x.root, name, flag, perm, x.buffer[:n]); err != nil {
				return writeError(err, name)
			}
		}
		flag = os.O_APPEND
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return unpackError(err)
		}
	}
}

// fill reads until the buffer is full or nothing more comes. Unlike
// [io.ReadFull] it keeps the end of the content apart from a broken one.
func fill(content io.Reader, buffer []byte) (n int, err error) {
	for n < len(buffer) && err == nil {
		var more int
		more, err = content.Read(buffer[n:])
		n += more
	}
	return n, err
}

// writeChunk writes data to the file's end while no process is forked. A child
// would hold the descriptor until it executes its program, and whoever starts
// the written one meanwhile gets "text file busy".
func writeChunk(root *os.Root, name string, flag int, perm fs.FileMode, data []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	file, err := root.OpenFile(name, os.O_WRONLY|flag, perm)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Close())
}

// symlink notes a symbolic link; [extractor.finish] makes it.
func (x *extractor) symlink(name, target string) error {
	name, err := x.enter(name, linkMember)
	if err != nil {
		return err
	}
	x.links[name] = target
	return nil
}

// hardlink makes another name for a file that was written before.
func (x *extractor) hardlink(name, target string) error {
	if reason := unsafeName(target); reason != "" {
		return fail(UnsafeLink, nil, "the target %q of a hard link %s", shorten(target), reason)
	}
	target = path.Clean(target)
	if x.members[target] != fileMember {
		return fail(UnsafeLink, nil, "the hard link %q is to no file of the archive", shorten(name))
	}
	name, err := x.enter(name, fileMember)
	if err != nil {
		return err
	}
	if err := x.root.Link(target, name); err != nil {
		return writeError(err, name)
	}
	return nil
}

// finish finds the executable, directly or below the archive's only folder,
// and makes the links. It returns the folder that the executable's path is
// relative to.
func (x *extractor) finish(executable string) (string, error) {
	top := "."
	if !x.has(executable) {
		top = x.onlyFolder()
		if top == "" || !x.has(path.Join(top, executable)) {
			return "", x.missing(executable)
		}
	}
	root, err := x.root.OpenRoot(top)
	if err != nil {
		return "", ioError(err, "open %s", top)
	}
	defer root.Close()
	names := map[string]string{}
	for name, target := range x.links {
		if name = strings.TrimPrefix(name, top+"/"); leadsOut(name, target) {
			return "", fail(UnsafeLink, nil, "the link %q leads out of the archive", name)
		}
		names[name] = target
	}
	for name, target := range names {
		if err := root.Symlink(target, name); err != nil {
			return "", writeError(err, name)
		}
	}
	for name := range names { // only now do chains resolve
		if _, err := root.Stat(name); err != nil {
			return "", fail(UnsafeLink, nil, "the link %q leads out of the archive, into a loop or nowhere", name)
		}
	}
	if err := root.Chmod(executable, 0o755); err != nil {
		return "", ioError(err, "make %s executable", executable)
	}
	return top, nil
}

// has reports whether the name is a file or a link.
func (x *extractor) has(name string) bool {
	return x.members[name] == fileMember || x.members[name] == linkMember
}

// onlyFolder returns the folder in which everything lies; empty when there is
// none.
func (x *extractor) onlyFolder() string {
	only := ""
	for name, kind := range x.members {
		if strings.Contains(name, "/") {
			continue
		}
		if only != "" || kind != folderMember {
			return ""
		}
		only = name
	}
	return only
}

// missing says that the executable is not there, and where something of its
// name is.
func (x *extractor) missing(executable string) error {
	e := fail(MissingBinary, nil, "the archive holds no %s", executable)
	for name := range maps.Keys(x.members) {
		if x.has(name) && path.Base(name) == path.Base(executable) {
			return e.hint("it holds %s: name that as the executable", name)
		}
	}
	return e.hint("name the executable's path inside the archive")
}

// writeError says what an error of writing a member means.
func writeError(err error, name string) error {
	switch {
	case errors.Is(err, fs.ErrExist): // on a disk that takes two names for one
		return fail(DuplicateEntry, nil, "this disk takes %q for the name of another member", name)
	case errors.Is(err, syscall.ENAMETOOLONG):
		return fail(UnsafePath, nil, "the name %q of a member is too long for this disk", shorten(name))
	}
	return ioError(err, "write %s", name)
}

// shorten keeps of a hostile text what can be shown.
func shorten(text string) string {
	if len(text) > 80 {
		return text[:80] + "..."
	}
	return text
}

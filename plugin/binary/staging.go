package binary

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// staging is the folder in which a version is prepared. It lies beside the
// versions, on the same disk, so that one rename makes it a version.
type staging struct {
	dir  string
	tree string // what is to be published; below dir
}

// folder makes a folder in staging.
func (s *staging) folder(name string) (string, error) {
	path := filepath.Join(s.dir, name)
	if err := os.Mkdir(path, 0o755); err != nil {
		return "", ioError(err, "make %s", path)
	}
	return path, nil
}

// staged has work prepare the version in a fresh staging folder, whose tree
// then holds the executable, and publishes it. Whatever happens, the staging
// folder is gone afterwards.
func (j *job) staged(work func(*staging) (receipt, error)) (got Installed, err error) {
	dir, err := os.MkdirTemp(j.nameDir(), stagingPrefix)
	if err != nil {
		return got, ioError(err, "make a staging folder in %s", j.nameDir())
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			j.store.log.Warn("remove staging folder", "path", dir, "error", err)
		}
	}()
	s := &staging{dir: dir}
	if s.tree, err = s.folder("tree"); err != nil {
		return got, err
	}
	proven, err := work(s)
	if err != nil {
		return got, err
	}
	if err := j.publish(s, &proven); err != nil {
		return got, err
	}
	return j.store.installed(j.want, proven, proven.Source), nil
}

// publish completes the receipt and makes the tree the wanted version.
func (j *job) publish(s *staging, r *receipt) error {
	root, err := os.OpenRoot(s.tree)
	if err != nil {
		return ioError(err, "open %s", s.tree)
	}
	defer root.Close()
	r.Schema, r.Name, r.Version = receiptSchema, j.want.name, j.want.version
	r.OS, r.Arch, r.Executable = j.want.os, j.want.arch, j.want.executable
	r.AcquiredAt = time.Now().UTC().Truncate(time.Second)
	if r.SHA256, r.Bytes, err = digestFile(root, r.Executable); err != nil {
		return ioError(err, "read %s", r.Executable)
	}
	if err := writeReceipt(root, *r); err != nil {
		return err
	}
	if err := syncTree(s.tree); err != nil {
		return ioError(err, "write %s to the disk", s.tree)
	}
	return j.replace(s.tree, j.store.versionDir(j.want))
}

// replace renames tree to the version's folder, after setting aside what may
// lie there. A process that still runs what was there keeps it until it ends.
func (j *job) replace(tree, version string) error {
	aside := ""
	if _, err := os.Lstat(version); err == nil {
		dir, err := os.MkdirTemp(j.nameDir(), stalePrefix)
		if err != nil {
			return ioError(err, "make a folder in %s", j.nameDir())
		}
		aside = dir
		if err := os.Rename(version, filepath.Join(aside, "version")); err != nil {
			return ioError(err, "set %s aside", version)
		}
	}
	if err := os.Rename(tree, version); err != nil {
		return ioError(err, "rename %s to %s", tree, version)
	}
	if err := syncFile(j.nameDir()); err != nil {
		return ioError(err, "write %s to the disk", j.nameDir())
	}
	if aside == "" {
		return nil
	}
	if err := os.RemoveAll(aside); err != nil { // the next job on the name tries again
		j.store.log.Warn("remove what was replaced", "path", aside, "error", err)
	}
	return nil
}

// writeReceipt writes the receipt, which nothing in the tree may have brought.
func writeReceipt(root *os.Root, r receipt) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fail(IOError, err, "encode receipt")
	}
	file, err := root.OpenFile(receiptFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fail(DuplicateEntry, nil, "the archive has a %s of its own", receiptFile)
	}
	if err != nil {
		return ioError(err, "make %s", receiptFile)
	}
	_, err = file.Write(append(text, '\n'))
	if err := errors.Join(err, file.Close()); err != nil {
		return ioError(err, "write %s", receiptFile)
	}
	return nil
}

// syncTree waits until every file and folder below dir is on the disk.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() && !e.Type().IsRegular() {
			return err
		}
		return syncFile(path)
	})
}

// syncFile waits until the file or folder is on the disk. It is opened for
// reading: an executable is never open for writing longer than it is written.
func syncFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

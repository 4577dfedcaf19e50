package binary

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
)

// release asks the URLs of a release in order. Every one that is passed over
// is noted with its reason.
func (j *job) release(ctx context.Context, source Source) (Installed, error) {
	var last error
	for _, rawURL := range source.URLs {
		got, err := j.staged(func(s *staging) (receipt, error) { return j.fromURL(ctx, source, rawURL, s) })
		if err == nil {
			return got, nil
		}
		var known *Error
		if errors.As(err, &known) {
			known.about(rawURL)
		}
		j.skip(KindRelease, err)
		if last = err; ctx.Err() != nil || isFatal(err) {
			break
		}
	}
	return Installed{}, last
}

// fromURL downloads, verifies and unpacks the release behind one URL.
func (j *job) fromURL(ctx context.Context, source Source, rawURL string, s *staging) (receipt, error) {
	none := receipt{}
	name, err := fileName(rawURL)
	if err != nil {
		return none, err
	}
	format, err := formatOf(source.Format, name)
	if err != nil {
		return none, err
	}
	proof, err := j.proof(ctx, source, name)
	if err != nil {
		return none, err
	}
	file, digests, err := j.download(ctx, rawURL, s)
	if err != nil {
		return none, err
	}
	defer file.Close()
	j.report.say(Progress{Source: KindRelease, Step: StepVerify, Detail: proof.by})
	if err := proof.check(file, name, digests); err != nil {
		return none, err
	}
	j.report.say(Progress{Source: KindRelease, Step: StepUnpack, Detail: name})
	if err := j.unpack(ctx, file, format, s); err != nil {
		return none, err
	}
	return receipt{
		Source: KindRelease, URL: scrub(rawURL), Proof: proof.by,
		FileSHA256: digests["sha256"], FileSHA512: digests["sha512"],
	}, nil
}

// fileName is the name of the file behind a URL.
func fileName(rawURL string) (string, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "", fail(BadURL, nil, "%s is not a URL", rawURL)
	}
	name := path.Base(u.Path)
	if name == "." || name == "/" || unsafeName(name) != "" {
		return "", fail(BadURL, nil, "%s names no file", rawURL)
	}
	return name, nil
}

// proof is what a file is verified against.
type proof struct {
	by   string     // for people and for the receipt
	want []checksum // all must hold
}

// proof returns the pinned digests, or else what the checksum file says.
func (j *job) proof(ctx context.Context, source Source, name string) (proof, error) {
	p := proof{by: "pinned digest"}
	if source.SHA256 != "" {
		p.want = append(p.want, checksum{"sha256", source.SHA256})
	}
	if source.SHA512 != "" {
		p.want = append(p.want, checksum{"sha512", source.SHA512})
	}
	if len(p.want) > 0 {
		return p, nil
	}
	if source.ChecksumsURL == "" {
		return p, fail(ChecksumMissing, nil, "there is nothing to verify %s against", name).hint("pin its sha256, or name the publisher's checksums_url")
	}
	j.report.say(Progress{Source: KindRelease, Step: StepResolve, Detail: source.ChecksumsURL})
	text, err := j.store.fetcher.read(ctx, source.ChecksumsURL, mostChecksums)
	if err != nil {
		return p, err
	}
	sum, err := findChecksum(text, name)
	if err != nil {
		var known *Error
		if errors.As(err, &known) {
			known.about(source.ChecksumsURL)
		}
		return p, err
	}
	return proof{by: scrub(source.ChecksumsURL), want: []checksum{sum}}, nil
}

// check compares the digests. A page in place of the file is called that.
func (p proof) check(file io.ReaderAt, name string, digests map[string]string) error {
	for _, want := range p.want {
		if digests[want.algorithm] == want.digest {
			continue
		}
		start := make([]byte, 512)
		n, err := file.ReadAt(start, 0)
		switch {
		case err != nil && err != io.EOF:
			return ioError(err, "read a download")
		case n == 0:
			return fail(BadContent, nil, "%s came empty", name)
		case isMarkup(start[:n]):
			return fail(BadContent, nil, "a web page came in place of %s", name)
		}
		return fail(ChecksumMismatch, nil, "%s has %s %s, wanted by %s is %s", name, want.algorithm, digests[want.algorithm], p.by, want.digest).
			hint("somebody replaced the file: ask its publisher before you trust it")
	}
	return nil
}

// download gets the file into staging and returns it with its digests.
func (j *job) download(ctx context.Context, rawURL string, s *staging) (*os.File, map[string]string, error) {
	file, err := os.OpenFile(filepath.Join(s.dir, "download"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, nil, ioError(err, "make a download")
	}
	hashes := map[string]hash.Hash{"sha256": sha256.New(), "sha512": sha512.New()}
	retried := ""
	err = j.store.fetcher.get(ctx, rawURL, fetchTo{
		most: j.store.limits.MaxBytes,
		open: func() (io.Writer, error) {
			for _, h := range hashes {
				h.Reset()
			}
			if _, err := file.Seek(0, io.SeekStart); err != nil {
				return nil, ioError(err, "write a download")
			}
			if err := file.Truncate(0); err != nil {
				return nil, ioError(err, "write a download")
			}
			return io.MultiWriter(file, hashes["sha256"], hashes["sha512"]), nil
		},
		seen: func(done, total int64) {
			j.report.say(Progress{Source: KindRelease, Step: StepDownload, Bytes: done, Total: total, Detail: retried})
		},
		retry: func(try int, why error) {
			retried = fmt.Sprintf("try %d after: %v", try, why)
			j.report.say(Progress{Source: KindRelease, Step: StepResolve, Detail: retried})
		},
	})
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	digests := map[string]string{}
	for algorithm, h := range hashes {
		digests[algorithm] = hex.EncodeToString(h.Sum(nil))
	}
	return file, digests, nil
}

// unpack fills the tree of the staging folder and checks the executable.
func (j *job) unpack(ctx context.Context, file *os.File, format string, s *staging) error {
	root, err := os.OpenRoot(s.tree)
	if err != nil {
		return ioError(err, "open %s", s.tree)
	}
	defer root.Close()
	x := newExtractor(ctx, root, j.store.limits)
	if err := unpack(x, file, format, j.want.executable); err != nil {
		return err
	}
	top, err := x.finish(j.want.executable)
	if err != nil {
		return err
	}
	s.tree = filepath.Join(s.tree, top)
	return inspect(root, path.Join(top, j.want.executable), j.want.os, j.want.arch)
}

package binary

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Class says what kind of trouble an [Error] is. Programs branch on it, so the
// names never change.
type Class string

// The classes of errors.
const (
	UnsafePath        Class = "unsafe_path"        // a member's name leads out of the archive or cannot be trusted
	UnsafeLink        Class = "unsafe_link"        // a link leads out, into a loop or nowhere, or a member lies below one
	UnsafeType        Class = "unsafe_type"        // a device, pipe, socket or sparse file
	UnsafeMode        Class = "unsafe_mode"        // a setuid, setgid or sticky file
	DuplicateEntry    Class = "duplicate_entry"    // two members claim the same name
	LimitExceeded     Class = "limit_exceeded"     // more bytes, files or depth than [Limits] allows
	CorruptArchive    Class = "corrupt_archive"    // cannot be unpacked to its end
	BadContent        Class = "bad_content"        // something else than was asked for, such as an error page
	MissingBinary     Class = "missing_binary"     // the archive does not hold the executable
	NotExecutable     Class = "not_executable"     // no program, or one that cannot be started here
	WrongArch         Class = "wrong_arch"         // for another operating system or processor
	ChecksumMismatch  Class = "checksum_mismatch"  // not the file that was published or pinned
	ChecksumMissing   Class = "checksum_missing"   // nothing to verify against
	ChecksumMalformed Class = "checksum_malformed" // not a checksum file
	ChecksumAmbiguous Class = "checksum_ambiguous" // the checksum file contradicts itself
	WeakChecksum      Class = "weak_checksum"      // only an algorithm that proves nothing any more
	SizeMismatch      Class = "size_mismatch"      // not as long as was said
	SignatureInvalid  Class = "signature_invalid"  // not signed by the key
	SignatureMissing  Class = "signature_missing"  // no signature where one is required
	Truncated         Class = "truncated"          // the connection ended early
	Timeout           Class = "timeout"            // no byte for too long, or too long in all
	RedirectLoop      Class = "redirect_loop"      // too many redirects
	InsecureRedirect  Class = "insecure_redirect"  // from https to plain http
	ForbiddenHost     Class = "forbidden_host"     // a host that is not allowed
	ForbiddenScheme   Class = "forbidden_scheme"   // neither https nor http on loopback
	BadURL            Class = "bad_url"            // not a URL that can be used
	BadVersion        Class = "bad_version"        // a version, or another name, that cannot be used
	AssetNotFound     Class = "asset_not_found"    // the release exists without the file
	NotFound          Class = "not_found"          // does not exist
	HTTPError         Class = "http_error"         // any other answer than success
	RateLimited       Class = "rate_limited"       // asked too often
	TLSError          Class = "tls_error"          // the server's identity could not be verified
	NetworkError      Class = "network_error"      // no connection
	IOError           Class = "io_error"           // the disk, or the permission to write on it
)

// Error says why a binary was not acquired. It is safe to print and to send:
// it holds no credentials and no control characters.
type Error struct {
	Class   Class
	Message string // one line that says what was tried and what happened
	URL     string // that the trouble is about; empty when it is about none
	Hint    string // what to do next; may be empty
	Err     error  // the cause, for errors.Is; may be nil

	// minor is set where the trouble says little about the binary: a source
	// that this machine simply does not have. Others tell more.
	minor bool
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// fail returns an error of the class whose message is the text, followed by
// the cause if there is one.
func fail(class Class, cause error, format string, args ...any) *Error {
	text := fmt.Sprintf(format, args...)
	if cause != nil {
		text += ": " + cause.Error()
	}
	return &Error{Class: class, Message: scrub(text), Err: cause}
}

// about names the URL that the error is about.
func (e *Error) about(rawURL string) *Error {
	if e.URL == "" {
		e.URL = scrub(rawURL)
	}
	return e
}

// hint says what to do next, unless something said so already.
func (e *Error) hint(format string, args ...any) *Error {
	if e.Hint == "" {
		e.Hint = scrub(fmt.Sprintf(format, args...))
	}
	return e
}

// telling orders the classes by how much they tell of why there is no binary,
// most first: what was served wrongly, then who refused, then who was not
// reached.
var telling = []Class{
	IOError, ChecksumMismatch, SignatureInvalid, SizeMismatch, UnsafePath, UnsafeLink, UnsafeType, UnsafeMode,
	DuplicateEntry, LimitExceeded, CorruptArchive, WrongArch, NotExecutable, MissingBinary, BadContent,
	WeakChecksum, ChecksumAmbiguous, ChecksumMalformed, ChecksumMissing, SignatureMissing,
	BadURL, ForbiddenScheme, ForbiddenHost, InsecureRedirect, RedirectLoop, BadVersion,
	TLSError, RateLimited, Truncated, Timeout, NetworkError, HTTPError, AssetNotFound, NotFound,
}

// attempt is a source that was tried in vain.
type attempt struct {
	source string
	err    *Error
}

// exhausted sums up in one error that no source gave the binary.
func exhausted(want wanted, tried []attempt) *Error {
	what := want.name + " " + want.version
	if len(tried) == 0 {
		return fail(NotFound, nil, "acquire %s: no source is declared", what)
	}
	var texts, hints []string
	var causes []error
	most := tried[0].err
	for _, t := range tried {
		text := t.source + ": " + t.err.Message
		if t.err.URL != "" && !strings.Contains(text, t.err.URL) {
			text += " (" + t.err.URL + ")"
		}
		texts = append(texts, text)
		causes = append(causes, t.err)
		if t.err.Hint != "" && !slices.Contains(hints, t.err.Hint) {
			hints = append(hints, t.err.Hint)
		}
		if tellsMore(t.err, most) {
			most = t.err
		}
	}
	return &Error{
		Class:   most.Class,
		Message: "acquire " + what + ": " + strings.Join(texts, "; "),
		URL:     most.URL,
		Hint:    strings.Join(hints, "; or "),
		Err:     errors.Join(causes...),
	}
}

// tellsMore reports whether a tells more than b.
func tellsMore(a, b *Error) bool {
	if a.minor != b.minor {
		return b.minor
	}
	return slices.Index(telling, a.Class) < slices.Index(telling, b.Class)
}

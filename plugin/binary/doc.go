// Package binary brings an external executable onto this machine: it looks
// where the executable may be had, verifies it, unpacks it safely and keeps it
// in a store of versions.
//
// # What it promises
//
// A [Store] hands out an executable only when it is known to be the one that
// was asked for. The sources of a [Spec] are tried in order:
//
//   - installed: an executable that is on the machine already, accepted when
//     its digest is the pinned one. It is used where it lies, not copied: it
//     may need the files beside it. Whoever replaces it replaces what runs at
//     the next start, so pin it only where the system's packages are trusted.
//   - release: a file behind a URL, an archive or the bare executable, accepted
//     when its digest is the pinned one or the one in the checksum file that
//     was published beside it. Without either it is refused.
//   - gomodule: a package of a Go module, built here by the Go toolchain, which
//     verifies every module against the checksum database. It is refused where
//     that verification is turned off.
//
// Why a source was passed over is told through the progress function, and again
// in the [Error] when none is left.
//
// # The store
//
// A version lies in one folder, <store>/<name>/<version>, beside a receipt that
// says where it came from and what the digest of its executable is. The folder
// appears by one rename when everything in it is on the disk. So a process that
// dies at any moment leaves no part of a version behind, and what a dead one
// left in staging is removed by the next that works on the same name. That a
// folder exists proves nothing: it counts only while receipt and executable
// agree, and is replaced otherwise. Binaries of another platform than this
// machine's lie in <version>@<os>-<arch>.
//
// # Concurrency
//
// Any number of goroutines and processes may ask for the same binary: a lock on
// a file, one for each name, makes them wait for the first, and its result
// serves all. What is in the store already is handed out without a lock and
// without a single write.
//
// A process that forks while it holds an executable open for writing makes the
// next start of it fail with "text file busy". Therefore no descriptor is open
// for writing while this process forks; other goroutines may start programs as
// they like, and wait a few milliseconds at most.
//
// # Errors
//
// Errors for people are an [*Error]: a class to branch on, a message that names
// what was tried, a hint what to do next. They hold no credentials: user names,
// passwords and queries of URLs are cut off, control characters are removed.
package binary

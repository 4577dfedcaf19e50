// Package proc is hero_proc, the process supervisor that lab brings along: it
// keeps the actions of services running, and none of them notices when it does
// not.
//
// # Two processes
//
// The keeper ([Keep]) is a small loop that keeps one supervisor ([Supervise])
// alive, and holds for it what must not be lost with it: the socket on which
// processes say that they are ready, and the processes that a dead supervisor
// leaves behind. It is the child subreaper of everything below it: they become
// its children, or, where it is not the first keeper, it holds their pidfds; and
// how one ended is written to a file before the kernel forgets it. The
// supervisor does all the work, in one goroutine that owns the model. Each
// holds a file lock that lives as long as it does, so there is one of each. A
// supervisor whose keeper dies turns itself into the keeper, by execve, and so
// remains the parent of its children.
//
// # Promises
//
// A process is known by boot, PID and the moment of its start; no signal is
// sent on a PID alone. Whatever is decided is on disk before it is done: the
// job before the fork, with its name in the environment of the process, by
// which a successor finds what was started in the last moment; the stop signal
// before it is sent, so that it is sent at most once in the life of a process,
// whatever happens to the supervisor. Output goes to a file that nobody needs
// to read; an index beside it says when it grew, and what is too old or too much
// becomes a hole at its beginning. So supervisor and keeper may be killed at any moment, one or both:
// the next ones adopt what runs, learn how what ended did, and start no second
// copy. Where nobody can know how a process ended, that is what is said.
// That is so of one that ended while there was neither a keeper nor a
// supervisor to hold it. One thing nobody can know at all: that a process was
// forked in the last moment of a supervisor, before its PID was written down,
// and had ended when the next one came. It is started again.
//
// A process that is not to be any more goes with all it started: its group,
// its session, its descendants, and whatever carries the job's name in its
// environment.
//
// # Level-based
//
// Every message (a call, an exit, what a probe found, a timer) only changes
// what is known. Then one function, reconcile, compares for every action what
// is wanted with what is and takes the next step. It may run at any time and
// any number of times.
//
// # The store
//
// State is in SQLite, through modernc.org/sqlite, which is SQLite translated
// to Go: no C compiler is needed where lab is built, and it is built for any
// platform on any other. A registration, what is wanted and a secret are on disk
// when the call that set them returns; a call that cannot be written down is
// taken back. What is noted of processes is with the kernel before anything
// follows from it, which is enough to survive keeper and supervisor; if the
// machine falls, nothing of what was noted runs any more. Secrets are sealed by
// a key in a file of its own. A damaged store is reported and left alone: what
// to do about it is for people to say.
//
// # Platforms
//
// The supervisor needs Linux (pidfd, child subreaper, /proc). Elsewhere Keep
// and Supervise return [ErrUnsupported].
package proc

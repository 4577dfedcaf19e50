//go:build linux

package proc

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ending is how a process ended.
type ending struct {
	Known  bool           `json:"known"`
	Code   int            `json:"code,omitempty"`
	Signal syscall.Signal `json:"signal,omitempty"` // 0: it exited by itself
}

// endingOf decodes a wait status.
func endingOf(status syscall.WaitStatus) ending {
	if status.Signaled() {
		return ending{Known: true, Signal: status.Signal()}
	}
	return ending{Known: true, Code: status.ExitStatus()}
}

// String says it in words.
func (e ending) String() string {
	switch {
	case !e.Known:
		return "ended while nobody watched, how is not known"
	case e.Signal != 0:
		return "killed by " + signalName(e.Signal)
	}
	return fmt.Sprintf("exited %d", e.Code)
}

func signalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(s))
}

// childInfo is the kernel's siginfo_t as waitid fills it in.
type childInfo struct {
	_      [2]int32
	Code   int32
	_      [unsafe.Sizeof(uintptr(0))/4 - 1]int32 // the union is aligned to a pointer
	PID    int32
	_      uint32
	Status int32
	_      [100]byte
}

// What childInfo.Code says of a child that has ended by itself.
const cldExited = 1

// peek returns a child that has ended, without reaping it: the given one, or
// any for 0. The PID is 0 when there is none.
func peek(pid int) (int, ending, error) {
	kind := unix.P_PID
	if pid == 0 {
		kind = unix.P_ALL
	}
	for {
		var info childInfo
		err := unix.Waitid(kind, pid, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || info.PID == 0:
			return 0, ending{}, err
		case info.Code == cldExited:
			return int(info.PID), ending{Known: true, Code: int(info.Status)}, nil
		}
		return int(info.PID), ending{Known: true, Signal: syscall.Signal(info.Status)}, nil
	}
}

// reap lets the kernel forget a child that has ended.
func reap(pid int) {
	for {
		_, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
		if !errors.Is(err, unix.EINTR) {
			return // an error says that there is nothing to reap
		}
	}
}

// exits is the folder where the keeper writes down how its children ended, for
// a supervisor that is not their parent.
type exits string

// partial ends the name of a note that is being written.
const partial = ".tmp"

func (dir exits) file(id identity) string {
	return filepath.Join(string(dir), fmt.Sprintf("%s-%d-%d.json", id.Boot, id.PID, id.Ticks))
}

// write notes how a process ended. A reader sees the note whole or not at all.
// It is not forced to disk: it only has to survive processes.
func (dir exits) write(id identity, e ending) error {
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode exit: %w", err)
	}
	path := dir.file(id)
	if err := os.WriteFile(path+partial, b, 0o600); err != nil {
		return fmt.Errorf("write exit: %w", err)
	}
	if err := os.Rename(path+partial, path); err != nil {
		return fmt.Errorf("write exit: %w", err)
	}
	return nil
}

// read returns what was noted of a process, false when nothing was.
func (dir exits) read(id identity) (ending, bool) {
	b, err := os.ReadFile(dir.file(id))
	if err != nil {
		return ending{}, false
	}
	var e ending
	return e, json.Unmarshal(b, &e) == nil
}

// remove forgets a process.
func (dir exits) remove(id identity) error {
	if err := os.Remove(dir.file(id)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

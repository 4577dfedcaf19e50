//go:build linux

package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// identity names one process for good. A PID comes back, but not with the same
// start within the same boot.
type identity struct {
	Boot  string `json:"boot,omitempty"`
	PID   int    `json:"pid,omitempty"`
	Ticks uint64 `json:"ticks,omitempty"` // start, in clock ticks since boot
}

// bootID names this run of the kernel.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot ID: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// stat is what the kernel says of a process.
type stat struct {
	pid, parent, group, session int
	state                       byte // 'Z' is a zombie
	ticks                       uint64
	status                      syscall.WaitStatus // of a zombie; 0 also where it is not for us to see
}

// The fields of /proc/PID/stat, counted from the one after the name.
const (
	statState, statParent, statGroup, statSession = 0, 1, 2, 3
	statTicks, statStatus                         = 19, 49
)

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // the name before may contain anything
	if len(fields) <= statStatus {
		return stat{}, fmt.Errorf("parse stat of PID %d: %d fields", pid, len(fields))
	}
	s := stat{pid: pid, state: fields[statState][0]}
	var errs [5]error
	s.parent, errs[0] = strconv.Atoi(fields[statParent])
	s.group, errs[1] = strconv.Atoi(fields[statGroup])
	s.session, errs[2] = strconv.Atoi(fields[statSession])
	s.ticks, errs[3] = strconv.ParseUint(fields[statTicks], 10, 64)
	status, err := strconv.Atoi(fields[statStatus])
	errs[4], s.status = err, syscall.WaitStatus(status)
	if err := errors.Join(errs[:]...); err != nil {
		return stat{}, fmt.Errorf("parse stat of PID %d: %w", pid, err)
	}
	return s, nil
}

// stats returns what runs, by PID.
func stats() (map[int]stat, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	all := make(map[int]stat, len(names))
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil {
			continue
		}
		if s, err := readStat(pid); err == nil { // else it has just gone
			all[pid] = s
		}
	}
	return all, nil
}

// carries reports whether the process was started with the variable in its
// environment; a process of another user seems not to.
func carries(pid int, variable string) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	return bytes.HasPrefix(b, []byte(variable+"\x00")) || bytes.Contains(b, []byte("\x00"+variable+"\x00"))
}

// signalExactly sends the signal to the process with that PID and start, and
// to no other.
func signalExactly(pid int, ticks uint64, signal syscall.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if s, err := readStat(pid); err != nil || s.ticks != ticks {
		return unix.ESRCH
	}
	return unix.PidfdSendSignal(fd, signal, nil, 0)
}

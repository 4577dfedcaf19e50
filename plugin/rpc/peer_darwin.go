package rpc

import "golang.org/x/sys/unix"

// peer is the user at the other end of a connected socket.
func peer(fd int) (uid int, err error) {
	from, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return 0, err
	}
	return int(from.Uid), nil
}

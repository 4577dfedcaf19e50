package ready

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	gopsnet "github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/process"
)

// Holder is the process that has a port.
type Holder struct {
	PID     int    // 0 when the kernel does not tell us, as for another user's process
	Command string // name of the program, without its arguments
}

// String describes the holder for people.
func (h Holder) String() string {
	if h.PID == 0 {
		return "a process of another user"
	}
	return fmt.Sprintf("PID %d (%s)", h.PID, h.Command)
}

// PortHolder says who holds the port on the network ("tcp" or "udp"); false
// when nobody does.
func PortHolder(ctx context.Context, network string, port int) (Holder, bool, error) {
	conns, err := gopsnet.ConnectionsWithContext(ctx, network)
	if err != nil {
		return Holder{}, false, fmt.Errorf("list %s sockets: %w", network, err)
	}
	for _, c := range conns {
		if int(c.Laddr.Port) != port || network == "tcp" && c.Status != "LISTEN" {
			continue
		}
		h := Holder{PID: int(c.Pid)}
		if p, err := process.NewProcessWithContext(ctx, c.Pid); err == nil {
			h.Command, _ = p.NameWithContext(ctx)
		}
		return h, true, nil
	}
	return Holder{}, false, nil
}

// Bound returns nil if the process itself has the address (host:port) on the
// network ("tcp", where it listens, or "udp").
func Bound(ctx context.Context, network string, pid int, address string) error {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(service)
	if err != nil {
		return err
	}
	conns, err := gopsnet.ConnectionsPidWithContext(ctx, network, int32(pid))
	if err != nil {
		return fmt.Errorf("list %s sockets of PID %d: %w", network, pid, err)
	}
	for _, c := range conns {
		if network == "tcp" && c.Status != "LISTEN" {
			continue
		}
		if int(c.Laddr.Port) == port && (c.Laddr.IP == host || strings.Trim(c.Laddr.IP, "*0.:") == "") {
			return nil
		}
	}
	return fmt.Errorf("PID %d has not bound %s", pid, address)
}

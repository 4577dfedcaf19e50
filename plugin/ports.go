package plugin

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"syscall"

	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
)

// ChoosePorts settles the service's ports: pinned ones as they are, others as
// they were kept, or as preferred, or any that is free. A port that somebody
// else holds is an error when pinned, and replaced when not; one that a process
// of the service itself holds, by PID in own, is its own.
func ChoosePorts(ctx context.Context, ports []Port, kept map[string]int, own []int) (map[string]int, error) {
	chosen := make(map[string]int, len(ports))
	taken := map[socket]bool{}
	ports = slices.Clone(ports)
	slices.SortStableFunc(ports, func(a, b Port) int { // what cannot move comes first
		switch {
		case a.Pinned == b.Pinned:
			return 0
		case a.Pinned:
			return -1
		}
		return 1
	})
	for _, p := range ports {
		port := p.Preferred
		if k, ok := kept[p.Name]; ok && !p.Pinned {
			port = k
		}
		port, err := available(ctx, p, port, taken, own)
		if err != nil {
			return nil, err
		}
		chosen[p.Name], taken[socket{p.Network, port}] = port, true
	}
	return chosen, nil
}

// available returns port if nobody else holds it, or for a port that is not
// pinned another that is free.
func available(ctx context.Context, p Port, port int, taken map[socket]bool, own []int) (int, error) {
	if port != 0 {
		holder, held, err := ready.PortHolder(ctx, p.Network, port)
		if err != nil {
			return 0, err
		}
		held = held && !isOneOf(holder.PID, own)
		switch {
		case !held && !taken[socket{p.Network, port}]:
			return port, nil
		case p.Pinned && held:
			return 0, fmt.Errorf("%s port %d/%s is pinned in the settings but held by %s: end that process or choose another port", p.Name, port, p.Network, holder)
		case p.Pinned:
			return 0, fmt.Errorf("%s port %d is pinned in the settings for two purposes: choose another port", p.Name, port)
		}
	}
	for {
		port, err := FreePort(p.Network)
		if err != nil || !taken[socket{p.Network, port}] {
			return port, err
		}
	}
}

// socket is a port on a network: the same number on the other is another.
type socket struct {
	network string
	port    int
}

// isOneOf reports whether the process is one of those, or of the group that one
// of them leads.
func isOneOf(pid int, leaders []int) bool {
	group, err := syscall.Getpgid(pid)
	return slices.Contains(leaders, pid) || err == nil && slices.Contains(leaders, group)
}

// Ports that nobody preferred come from this range. The kernel gives none of
// them to outgoing connections, which could take a kept one at any time.
const (
	firstPort = 20000
	lastPort  = 32000
)

// FreePort finds a port that nobody has bound on loopback, for "tcp" or "udp".
// It is picked at random, so that two installations that come up at once hardly
// pick the same.
func FreePort(network string) (port int, err error) {
	for range 100 {
		port = firstPort + rand.IntN(lastPort-firstPort)
		if err = tryPort(network, port); err == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}

func tryPort(network string, port int) error {
	address := fmt.Sprintf("127.0.0.1:%d", port)
	if network == "udp" {
		conn, err := net.ListenPacket(network, address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	return l.Close()
}

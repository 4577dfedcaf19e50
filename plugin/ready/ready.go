// Package ready proves that a process serves: probes that look from outside,
// and waiting for them.
//
// A probe never trusts a PID, a file or a handle: it connects, asks, or looks
// at what the kernel says the process has bound. A probe that cannot tell on
// this platform fails and says so.
package ready

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Probe is one condition. Exactly one field is set.
type Probe struct {
	HTTP string `json:"http,omitempty" mapstructure:"http"` // URL that answers 2xx
	TCP  string `json:"tcp,omitempty" mapstructure:"tcp"`   // host:port that accepts
	UDP  string `json:"udp,omitempty" mapstructure:"udp"`   // host:port that the process itself has bound
	Unix string `json:"unix,omitempty" mapstructure:"unix"` // socket path that accepts
	Hero string `json:"hero,omitempty" mapstructure:"hero"` // socket path that answers GET /health with 2xx
}

// String names the probe for people.
func (p Probe) String() string {
	kind, target := p.parts()
	return kind + " " + target
}

// Validate refuses a probe that has none or several conditions.
func (p Probe) Validate() error {
	set := 0
	for _, v := range []string{p.HTTP, p.TCP, p.UDP, p.Unix, p.Hero} {
		if v != "" {
			set++
		}
	}
	if set != 1 {
		return fmt.Errorf("a ready probe has exactly one of http, tcp, udp, unix, hero; this one has %d", set)
	}
	return nil
}

func (p Probe) parts() (kind, target string) {
	switch {
	case p.HTTP != "":
		return "http", p.HTTP
	case p.TCP != "":
		return "tcp", p.TCP
	case p.UDP != "":
		return "udp", p.UDP
	case p.Unix != "":
		return "unix", p.Unix
	default:
		return "hero", p.Hero
	}
}

// Check looks once, within ctx. The PID is that of the process the probe
// speaks of; only the UDP probe needs it.
func (p Probe) Check(ctx context.Context, pid int) error {
	kind, target := p.parts()
	var err error
	switch kind {
	case "http":
		err = get(ctx, http.DefaultTransport, target)
	case "tcp":
		err = connect(ctx, "tcp", target)
	case "udp":
		err = Bound(ctx, "udp", pid, target)
	case "unix":
		err = connect(ctx, "unix", target)
	case "hero":
		err = health(ctx, target)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	return nil
}

func connect(ctx context.Context, network, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// health asks a Hero service for /health over its socket.
func health(ctx context.Context, socket string) error {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}
	return get(ctx, transport, "http://hero/health")
}

func get(ctx context.Context, transport http.RoundTripper, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 256))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("answered %s %s", resp.Status, strings.TrimSpace(string(body)))
	}
	return nil
}

// Wait repeats check every interval until it succeeds or ctx ends; then the
// error names both why ctx ended and what check last said.
func Wait(ctx context.Context, interval time.Duration, check func(context.Context) error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

package main_test

import (
	"fmt"
	"io"
	"net"
)

// preferredPort is where livekit-server listens when nobody else does.
const preferredPort = 7880

// preferred holds the ports that every installation prefers, so that those of
// the tests do not take them from each other while one restarts. A port that
// somebody else has serves as well.
var preferred preferredPorts

type preferredPorts struct{ held []io.Closer }

func (p *preferredPorts) hold() {
	for _, port := range []int{preferredPort, 8080, 7889} {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			p.held = append(p.held, l)
		}
	}
	if conn, err := net.ListenPacket("udp", "127.0.0.1:7882"); err == nil {
		p.held = append(p.held, conn)
	}
}

func (p *preferredPorts) letGo() {
	for _, held := range p.held {
		held.Close()
	}
	p.held = nil
}

package jetstream

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
)

// ServerURL returns the URL of a server on this machine, with its credentials.
func ServerURL(user, password string, port int) string {
	u := url.URL{
		Scheme: "nats",
		User:   url.UserPassword(user, password),
		Host:   net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
	}
	return u.String()
}

// address is a bus URL with the credentials taken out, so that whatever quotes
// the servers quotes no secret.
type address struct {
	servers string // separated by commas
	login   nats.Option
}

// parseAddress takes a URL, or several of one cluster separated by commas,
// apart. The first one with credentials gives them for all.
func parseAddress(raw string) (address, error) {
	var at address
	var servers []string
	for part := range strings.SplitSeq(raw, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		if !strings.Contains(part, "://") {
			part = "nats://" + part
		}
		u, err := url.Parse(part)
		if err != nil || u.Host == "" {
			return at, errors.New("parse bus URL: it is not of the form nats://USER:PASSWORD@HOST:PORT") // the cause would quote it
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return at, fmt.Errorf("parse bus URL: scheme %q is none of nats, tls, ws, wss", u.Scheme)
		}
		if u.User != nil && at.login == nil {
			at.login = loginOption(u.User)
		}
		u.User = nil
		servers = append(servers, u.String())
	}
	if len(servers) == 0 {
		return at, errors.New("parse bus URL: it is empty")
	}
	at.servers = strings.Join(servers, ",")
	return at, nil
}

// loginOption reads the user part as nats does: a name alone is a token.
func loginOption(user *url.Userinfo) nats.Option {
	if password, ok := user.Password(); ok {
		return nats.UserInfo(user.Username(), password)
	}
	return nats.Token(user.Username())
}

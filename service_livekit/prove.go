package livekit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
	"forge.ourworld.tf/lhumina_code/lab/service_livekit/backend"
)

// prover proves that the media serve.
type prover struct {
	secrets plugin.Secrets
}

// prove looks from outside. LiveKit is ready when all of this holds: the
// process that the supervisor owns is alive and has bound the UDP port itself,
// it answers, lk-backend is healthy, and a token that lk-backend signs now is
// accepted. An answer on the signalling port alone proves nothing: it comes
// without any UDP socket, and while draining.
func (p prover) prove(ctx context.Context, in plugin.Instance, status plugin.ServiceStatus) plugin.Proof {
	proof := plugin.Proof{URL: loopbackURL("ws", in.Ports[portSignal]), BackendURL: loopbackURL("http", in.Ports[portBackend])}
	server := status.Action(actionServer)
	check := func(name string, look func(context.Context) error) {
		outcome := events.CheckOutcome{Name: name, OK: true}
		if err := look(ctx); err != nil {
			outcome.OK, outcome.Error = false, err.Error()
		}
		proof.Checks = append(proof.Checks, outcome)
	}
	check("process", func(context.Context) error {
		if !server.Alive() {
			return fmt.Errorf("livekit-server is %s", server.State)
		}
		return nil
	})
	for _, c := range []struct {
		name  string
		probe ready.Probe
	}{
		{"udp", ready.Probe{UDP: fmt.Sprintf("127.0.0.1:%d", in.Ports[portUDP])}},
		{"signal", ready.Probe{HTTP: loopbackURL("http", in.Ports[portSignal]) + "/"}},
		{"backend", ready.Probe{HTTP: proof.BackendURL + "/health"}},
	} {
		check(c.name, func(ctx context.Context) error { return c.probe.Check(ctx, ready.Process{PID: server.PID}) })
	}
	check("token", func(ctx context.Context) error { return p.tokenIsAccepted(ctx, in, status) })
	proof.Participants = p.participants(ctx, in, status)
	return proof
}

// owns returns nil if the process of the action is the one that listens on the
// port. Nothing secret is sent before that: another installation's process, or
// anybody's, may have been quicker to take the port.
func owns(ctx context.Context, status plugin.ServiceStatus, action string, port int) error {
	a := status.Action(action)
	if !a.Alive() {
		return fmt.Errorf("%s is %s", action, a.State)
	}
	return ready.Bound(ctx, "tcp", a.PID, fmt.Sprintf("127.0.0.1:%d", port))
}

// participants counts who is in a room, as far as that can be known: also while
// lk-backend is down, as it is when the media drain.
func (p prover) participants(ctx context.Context, in plugin.Instance, status plugin.ServiceStatus) int {
	if owns(ctx, status, actionServer, in.Ports[portSignal]) != nil {
		return 0
	}
	key, errKey := p.secrets.GetSecret(ctx, Name, secretKey)
	secret, errSecret := p.secrets.GetSecret(ctx, Name, secretSecret)
	if errKey != nil || errSecret != nil {
		return 0
	}
	now, err := backend.Rooms(ctx, loopbackURL("http", in.Ports[portSignal]), key, secret)
	if err != nil {
		return 0
	}
	return now.Participants
}

// tokenIsAccepted has lk-backend sign a token and shows it to livekit-server.
func (p prover) tokenIsAccepted(ctx context.Context, in plugin.Instance, status plugin.ServiceStatus) error {
	client, err := newClient(ctx, p.secrets, status, in.Ports)
	if err != nil {
		return err
	}
	if err := owns(ctx, status, actionServer, in.Ports[portSignal]); err != nil {
		return err
	}
	token, err := client.Token(ctx, backend.TokenRequest{Room: "lab-readiness", Identity: "lab-readiness", TTLSeconds: 60, Probe: true})
	if err != nil {
		return fmt.Errorf("lk-backend signs no token: %w", err)
	}
	if want := loopbackURL("ws", in.Ports[portSignal]); token.URL != want {
		return fmt.Errorf("lk-backend sends participants to %s, livekit-server is at %s", token.URL, want)
	}
	at := loopbackURL("http", in.Ports[portSignal]) + "/rtc/validate?access_token=" + url.QueryEscape(token.Token)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return errors.New("make request to livekit-server") // its error would quote the token
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		var urlErr *url.Error
		if errors.As(err, &urlErr) {
			err = urlErr.Err // without the URL, which has the token
		}
		return fmt.Errorf("livekit-server does not answer: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16)) // it may quote the token
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("livekit-server answers %s to a token that lk-backend just signed", resp.Status)
	}
	return nil
}

// newClient is a client of our lk-backend, and of no other.
func newClient(ctx context.Context, secrets plugin.Secrets, status plugin.ServiceStatus, ports map[string]int) (*backend.Client, error) {
	if err := owns(ctx, status, actionBackend, ports[portBackend]); err != nil {
		return nil, err
	}
	bearer, err := secrets.GetSecret(ctx, Name, secretBearer)
	if err != nil {
		return nil, fmt.Errorf("get the secret of lk-backend: %w", err)
	}
	return &backend.Client{URL: loopbackURL("http", ports[portBackend]), Bearer: bearer, Timeout: 2 * time.Second}, nil
}

// Token gets a join token from lk-backend, wherever it was registered to listen.
func Token(ctx context.Context, supervisor plugin.Supervisor, secrets plugin.Secrets, req backend.TokenRequest) (backend.Token, error) {
	spec, status, err := supervisor.Get(ctx, Unit)
	if err != nil {
		return backend.Token{}, fmt.Errorf("find lk-backend: %w", err)
	}
	if action := status.Action(actionBackend); !action.Ready {
		return backend.Token{}, fmt.Errorf("lk-backend is %s %s", action.State, action.Why)
	}
	client, err := newClient(ctx, secrets, status, spec.Ports)
	if err != nil {
		return backend.Token{}, err
	}
	return client.Token(ctx, req)
}

package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events/jetstream"
	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
	"forge.ourworld.tf/lhumina_code/lab/plugin/rpc"
	"golang.org/x/sync/errgroup"
)

const busName = "hero_bus"

// The bus in the secret store: the URL, with credentials, of the bus in use,
// and of the embedded one, which keeps its own for when it is used again.
const (
	secretBusURL      = "nats_url"
	secretEmbeddedURL = "embedded_url"
)

// busChoice is which bus is in use.
type busChoice struct {
	embedded bool
	address  string // host and port, without credentials
}

// chooseBus settles the bus: NATS_URL, or the one that was settled before, or
// the embedded one with a password and a port of its own.
func chooseBus(ctx context.Context, client *procclient.Client, node string, embedded bool) (busChoice, error) {
	var choice busChoice
	own, err := embeddedURL(ctx, client)
	if err != nil {
		return choice, err
	}
	inUse, err := client.GetSecret(ctx, busName, secretBusURL)
	if err != nil && !errors.Is(err, plugin.ErrNotFound) {
		return choice, err
	}
	want := inUse
	if outside := os.Getenv("NATS_URL"); outside != "" && !embedded {
		want = outside
	} else if embedded || want == "" || sameUser(want, own) {
		want = own
	}
	parsed, err := url.Parse(want)
	if err != nil || parsed.Host == "" {
		return choice, hinted(errors.New("NATS_URL is not a URL of a NATS server"), "it looks like nats://user:password@host:4222")
	}
	if want != inUse && want != own {
		if err := reachable(ctx, want, node); err != nil {
			return choice, err
		}
	}
	if want != inUse {
		if err := client.SetSecret(ctx, busName, secretBusURL, want); err != nil {
			return choice, err
		}
	}
	return busChoice{embedded: want == own, address: parsed.Host}, nil
}

// reachable returns why an outside cluster cannot be used, nil if it can.
func reachable(ctx context.Context, url, node string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, errors.New("no answer within 10s"))
	defer cancel()
	bus, err := jetstream.Connect(ctx, jetstream.Options{URL: url, Node: node, Name: "lab up"})
	if err != nil {
		return hinted(fmt.Errorf("use the cluster of NATS_URL: %w", err), "nothing was changed; it has to be up, with JetStream, and to know these credentials")
	}
	return bus.Close()
}

// sameUser reports whether both URLs are the embedded server's, whose password
// nobody else has: only its port has changed.
func sameUser(a, b string) bool {
	x, errX := url.Parse(a)
	y, errY := url.Parse(b)
	return errX == nil && errY == nil && x.User.String() == y.User.String()
}

// embeddedURL returns the URL of the embedded server. It is made once; only
// its port changes, when somebody else took it while the bus was down.
func embeddedURL(ctx context.Context, client *procclient.Client) (string, error) {
	kept, err := client.GetSecret(ctx, busName, secretEmbeddedURL)
	if errors.Is(err, plugin.ErrNotFound) {
		fresh := url.URL{Scheme: "nats", User: url.UserPassword("lab", rand.Text())}
		if fresh.Host, err = freeAddress(); err != nil {
			return "", err
		}
		err = client.CreateSecret(ctx, busName, secretEmbeddedURL, fresh.String())
		if err == nil || !errors.Is(err, plugin.ErrExists) {
			return fresh.String(), err
		}
		return client.GetSecret(ctx, busName, secretEmbeddedURL)
	}
	if err != nil {
		return "", err
	}
	_, status, err := client.Get(ctx, busName)
	if errors.Is(err, plugin.ErrNotFound) || err == nil && !status.Alive() {
		return movedIfTaken(ctx, client, kept)
	}
	return kept, err
}

func movedIfTaken(ctx context.Context, client *procclient.Client, kept string) (string, error) {
	u, err := url.Parse(kept)
	if err != nil {
		return "", errors.New("the URL of the embedded bus in the secret store is damaged")
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return "", errors.New("the URL of the embedded bus in the secret store has no port")
	}
	if _, held, err := ready.PortHolder(ctx, "tcp", port); err != nil || !held {
		return kept, err
	}
	if u.Host, err = freeAddress(); err != nil {
		return "", err
	}
	return u.String(), client.SetSecret(ctx, busName, secretEmbeddedURL, u.String())
}

func freeAddress() (string, error) {
	port, err := plugin.FreePort("tcp")
	return fmt.Sprintf("127.0.0.1:%d", port), err
}

func (a *App) runBus(ctx context.Context) error {
	client, paths, err := a.Supervisor()
	if err != nil {
		return err
	}
	secret, err := client.GetSecret(ctx, busName, secretEmbeddedURL)
	if err != nil {
		return err
	}
	at, err := url.Parse(secret)
	if err != nil {
		return errors.New("the URL of the embedded bus in the secret store is damaged")
	}
	port, err := strconv.Atoi(at.Port())
	if err != nil {
		return errors.New("the URL of the embedded bus in the secret store has no port")
	}
	password, _ := at.User.Password()
	server := jetstream.NewServer(jetstream.ServerOptions{
		Dir: paths.Var(busName), Host: at.Hostname(), Port: port,
		User: at.User.Username(), Password: password, Log: a.Logger(a.Stdout),
	})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Run(ctx) })
	group.Go(func() error {
		health := func(context.Context) error { return server.Health() }
		return rpc.Service{Name: busName, Version: a.Version, Health: health}.Serve(ctx, paths.Socket(busName), nil)
	})
	return group.Wait()
}

// retireEmbedded stops the embedded bus where an outside one is used.
func retireEmbedded(ctx context.Context, client *procclient.Client, bus busChoice) error {
	if bus.embedded {
		return nil
	}
	err := client.Delete(ctx, busName, false)
	if errors.Is(err, plugin.ErrNotFound) {
		return nil
	}
	return err
}

// Package procclient talks to the supervisor hero_proc over its socket: it is
// [plugin.Supervisor] and [plugin.Secrets] for those who are not its children's
// keeper, and it is where the words of that conversation are written down.
//
// # Contract
//
// A [Client] holds no connection and no state; it needs no closing and may be
// used by many goroutines. While the supervisor is being restarted a call waits
// for it, for [rpc.Patience]; a call whose answer was lost on the way is made
// again where repeating it does no harm. So a restart in between is not
// noticed. An error that the supervisor answers with is returned as one of
// [plugin.ErrNotFound], [plugin.ErrExists], [ErrShuttingDown] where it is one; a
// supervisor that has not answered after ten seconds is [ErrHangs];
// [rpc.IsDown] tells that there is no supervisor.
package procclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/rpc"
	"github.com/creachadair/jrpc2"
)

// Supervisor is the name under which the supervisor has its socket.
const Supervisor = "hero_proc"

// ErrShuttingDown is the answer to a request to start something while the
// supervisor stops everything in order to end.
var ErrShuttingDown = errors.New("the supervisor is shutting down")

// ErrHangs says that there is a supervisor, which does not answer.
var ErrHangs = errors.New("the supervisor does not answer")

// answerTime is how long a call may take, waiting for the supervisor included.
const answerTime = 10 * time.Second

// Client calls the supervisor of one installation.
type Client struct {
	rpc *rpc.Client
}

var (
	_ plugin.Supervisor = (*Client)(nil)
	_ plugin.Secrets    = (*Client)(nil)
)

// New returns a client of the installation's supervisor. It does not connect
// before the first call.
func New(paths plugin.Paths) *Client {
	return &Client{rpc: rpc.NewClient(paths.Socket(Supervisor), rpc.Patience)}
}

// Impatient returns a client that does not wait for a supervisor that is not
// there.
func Impatient(paths plugin.Paths) *Client {
	return &Client{rpc: rpc.NewClient(paths.Socket(Supervisor), 0)}
}

// Set registers or replaces a service; see [plugin.Supervisor].
func (c *Client) Set(ctx context.Context, spec plugin.ServiceSpec) error {
	return c.again(ctx, "service.set", SetService{Spec: spec}, nil)
}

// SetAction registers or replaces one action of a registered service.
func (c *Client) SetAction(ctx context.Context, service string, action plugin.Action) error {
	return c.again(ctx, "action.set", SetAction{Service: service, Action: action}, nil)
}

// Get returns the registration and the state of a service.
func (c *Client) Get(ctx context.Context, name string) (plugin.ServiceSpec, plugin.ServiceStatus, error) {
	var got Service
	err := c.again(ctx, "service.get", Name{name}, &got)
	return got.Spec, got.Status, err
}

// List returns the state of every service, by name.
func (c *Client) List(ctx context.Context) ([]plugin.ServiceStatus, error) {
	var list []plugin.ServiceStatus
	err := c.again(ctx, "service.list", nil, &list)
	return list, err
}

// Jobs returns the last job of every action of the service, or of all.
func (c *Client) Jobs(ctx context.Context, service string) ([]Job, error) {
	var list []Job
	err := c.again(ctx, "job.list", Jobs{Service: service}, &list)
	return list, err
}

// Start wants the service and starts what is not up; it does not wait.
func (c *Client) Start(ctx context.Context, name string) error {
	return c.again(ctx, "service.start", Name{name}, nil)
}

// Stop no longer wants the service and stops it; it does not wait.
func (c *Client) Stop(ctx context.Context, name string, force bool) error {
	return c.again(ctx, "service.stop", Stop{Name: name, Force: force}, nil)
}

// Ignore leaves the service to itself: what runs goes on, and is not restarted
// when it ends.
func (c *Client) Ignore(ctx context.Context, name string) error {
	return c.again(ctx, "service.ignore", Name{name}, nil)
}

// Restart stops the service and starts it anew; it does not wait. It is the
// one call that is not made twice when its answer is lost.
func (c *Client) Restart(ctx context.Context, name string) error {
	return c.once(ctx, "service.restart", Name{name}, nil)
}

// Kill ends the processes of an action, or of all actions of the service, by
// force. What is wanted stays: the restart policy decides what follows.
func (c *Client) Kill(ctx context.Context, service, action string) error {
	return c.once(ctx, "service.kill", ActionName{Service: service, Action: action}, nil)
}

// Delete stops the service and forgets it once it is down; it does not wait.
func (c *Client) Delete(ctx context.Context, name string, force bool) error {
	return c.again(ctx, "service.delete", Stop{Name: name, Force: force}, nil)
}

// Why says in words how each action of the service stands.
func (c *Client) Why(ctx context.Context, name string) (string, error) {
	var why string
	err := c.again(ctx, "service.why", Name{name}, &why)
	return why, err
}

// Tree returns what the service needs, and all its processes.
func (c *Client) Tree(ctx context.Context, name string) (Tree, error) {
	var tree Tree
	err := c.again(ctx, "service.tree", Name{name}, &tree)
	return tree, err
}

// Logs returns the last lines of output of an action, or of all actions of the
// service, each then marked with its action. Secrets are blotted out.
func (c *Client) Logs(ctx context.Context, service, action string, lines int) ([]string, error) {
	var out []string
	err := c.again(ctx, "logs.tail", Tail{Service: service, Action: action, Lines: lines}, &out)
	return out, err
}

// LogLines returns output of an action, from a position on.
func (c *Client) LogLines(ctx context.Context, query LogQuery) ([]LogLine, error) {
	var lines []LogLine
	err := c.again(ctx, "logs.get", query, &lines)
	return lines, err
}

// CreateSecret stores a value once; [plugin.ErrExists] when there is one.
func (c *Client) CreateSecret(ctx context.Context, context, name, value string) error {
	return c.once(ctx, "secrets.create", Secret{context, name, value}, nil)
}

// SetSecret stores a value in place of the one there is, if any.
func (c *Client) SetSecret(ctx context.Context, context, name, value string) error {
	return c.again(ctx, "secrets.set", Secret{context, name, value}, nil)
}

// RotateSecret stores a value in place of the one there is;
// [plugin.ErrNotFound] when there is none.
func (c *Client) RotateSecret(ctx context.Context, context, name, value string) error {
	return c.again(ctx, "secrets.rotate", Secret{context, name, value}, nil)
}

// RekeySecrets has all values encrypted by a new key, and the old one
// forgotten.
func (c *Client) RekeySecrets(ctx context.Context) error {
	return c.again(ctx, "secrets.rekey", nil, nil)
}

// GetSecret returns a value; [plugin.ErrNotFound] when there is none.
func (c *Client) GetSecret(ctx context.Context, context, name string) (string, error) {
	var value string
	err := c.again(ctx, "secrets.get", Secret{Context: context, Name: name}, &value)
	return value, err
}

// ListSecrets returns the names of the values in a context, sorted.
func (c *Client) ListSecrets(ctx context.Context, context string) ([]string, error) {
	var names []string
	err := c.again(ctx, "secrets.list", SecretContext{context}, &names)
	return names, err
}

// DeleteSecret forgets a value; [plugin.ErrNotFound] when there is none.
func (c *Client) DeleteSecret(ctx context.Context, context, name string) error {
	return c.once(ctx, "secrets.delete", Secret{Context: context, Name: name}, nil)
}

// Info says who supervises.
func (c *Client) Info(ctx context.Context) (Info, error) {
	var info Info
	err := c.again(ctx, "system.info", nil, &info)
	return info, err
}

// Shutdown makes the supervisor stop every service, those named in last after
// all others, and then end. It does not wait: the supervisor has ended when a
// call of an [Impatient] client fails with an error for which [rpc.IsDown]
// holds. What is wanted stays: the next supervisor starts it again.
func (c *Client) Shutdown(ctx context.Context, force bool, last ...string) error {
	return c.again(ctx, "system.shutdown", Shutdown{Force: force, Last: last}, nil)
}

// RestartSupervisor has the supervisor and its keeper replaced by a new start
// of their program, under which every process goes on.
func (c *Client) RestartSupervisor(ctx context.Context) error {
	return c.once(ctx, "system.restart", nil, nil)
}

// again is once for calls that may be repeated: one whose answer was lost,
// because the supervisor died meanwhile, is made again. A supervisor that dies
// may take in a connection, and lose it, more than once.
func (c *Client) again(ctx context.Context, method string, params, result any) error {
	for deadline := time.Now().Add(rpc.Patience); ; {
		err := c.once(ctx, method, params, result)
		if !isLost(err) || !wait(ctx, deadline) {
			return err
		}
	}
}

// once has a call carried out at most once: it is made again only when a
// supervisor that is about to end has sent it away.
func (c *Client) once(ctx context.Context, method string, params, result any) error {
	deadline := time.Now().Add(rpc.Patience)
	err := c.call(ctx, method, params, result)
	var answer *jrpc2.Error
	for errors.As(err, &answer) && answer.Code == CodeEnding && wait(ctx, deadline) {
		err = c.call(ctx, method, params, result)
	}
	if !errors.As(err, &answer) {
		return err
	}
	for code, sentinel := range map[jrpc2.Code]error{
		CodeNotFound: plugin.ErrNotFound, CodeExists: plugin.ErrExists, CodeLeaving: ErrShuttingDown,
	} {
		if answer.Code == code {
			return fmt.Errorf("%s: %w", method, &known{message: answer.Message, sentinel: sentinel})
		}
	}
	return fmt.Errorf("%s: %w", method, answer)
}

// call makes one call. Every answer is a matter of moments, so a supervisor that
// takes longer than that hangs.
func (c *Client) call(ctx context.Context, method string, params, result any) error {
	limited, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	err := c.rpc.Call(limited, method, params, result)
	if limited.Err() != nil && ctx.Err() == nil {
		return ErrHangs
	}
	return err
}

// wait lets a moment pass, unless it is too late to go on.
func wait(ctx context.Context, deadline time.Time) bool {
	if time.Now().After(deadline) {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(reconnect):
		return true
	}
}

// known is an answer of the supervisor, in its words, that callers branch on.
type known struct {
	message  string
	sentinel error
}

func (k *known) Error() string { return k.message }
func (k *known) Unwrap() error { return k.sentinel }

// isLost reports whether the connection ended between request and answer.
func isLost(err error) bool {
	var dial *net.OpError
	if rpc.IsDown(err) || errors.As(err, &dial) && dial.Op == "dial" {
		return false // it never came about
	}
	var broken *url.Error // or it broke before the answer, or in its midst
	return errors.As(err, &broken) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

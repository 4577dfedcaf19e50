package plugin_test

import (
	"context"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/binary"
	"forge.ourworld.tf/lhumina_code/lab/plugin/plugintest"
	"github.com/matryer/is"
)

// echo is a service that is ready whenever it runs.
func echo(ports ...plugin.Port) plugin.Service {
	return plugin.Service{
		Name: "echo", Unit: "hero_echo", Noun: "service",
		Binary: binary.Spec{Name: "echo-server", Version: "1.0.0"},
		Ports:  ports,
		Actions: func(in plugin.Instance) ([]plugin.Action, error) {
			return []plugin.Action{
				{Name: "configure", Kind: plugin.Oneshot, Command: []string{in.Lab, "configure"}},
				{Name: "server", Command: []string{in.Binary, "--port", strconv.Itoa(in.Ports["client"])}, DependsOn: []plugin.Dependency{"configure"}},
			}, nil
		},
		Prove: func(_ context.Context, in plugin.Instance, status plugin.ServiceStatus) plugin.Proof {
			return plugin.Proof{Checks: []events.CheckOutcome{{Name: "alive", OK: status.Alive(), Error: "no process"}}}
		},
	}
}

func newEcho(host plugin.Host) plugintest.Service {
	return plugin.NewLifecycle(host, echo(), func() (plugin.Service, error) { return echo(), nil })
}

func TestLifecycle(t *testing.T) {
	t.Parallel()
	plugintest.Run(t, newEcho)
}

// listen holds a port for the time of the test.
func listen(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

func TestPortThatIsTakenIsReplacedOnce(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	taken := listen(t)
	first, err := plugin.ChoosePorts(t.Context(), []plugin.Port{{Name: "client", Network: "tcp", Preferred: taken}}, nil, nil)
	is.NoErr(err)
	is.True(first["client"] != taken && first["client"] != 0)
	again, err := plugin.ChoosePorts(t.Context(), []plugin.Port{{Name: "client", Network: "tcp", Preferred: taken}}, first, nil)
	is.NoErr(err)
	is.Equal(again, first) // kept, whatever is preferred
}

func TestPinnedPortThatIsTakenNamesItsHolder(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	taken := listen(t)
	_, err := plugin.ChoosePorts(t.Context(), []plugin.Port{{Name: "client", Network: "tcp", Preferred: taken, Pinned: true}}, nil, nil)
	is.True(err != nil)
	for _, told := range []string{strconv.Itoa(taken), "PID " + strconv.Itoa(os.Getpid()), "plugin.test"} {
		is.True(strings.Contains(err.Error(), told)) // port, process and command
	}
}

func TestPortThatTheServiceHoldsItselfIsKept(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	own := listen(t)
	ports, err := plugin.ChoosePorts(t.Context(), []plugin.Port{{Name: "client", Network: "tcp", Preferred: 1}}, map[string]int{"client": own}, []int{os.Getpid()})
	is.NoErr(err)
	is.Equal(ports["client"], own)
}

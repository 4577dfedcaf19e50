package proc_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/proc"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"forge.ourworld.tf/lhumina_code/lab/plugin/ready"
	"github.com/matryer/is"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	good := func() plugin.ServiceSpec {
		return plugin.ServiceSpec{Name: "livekit", Ports: map[string]int{"http": 7880}, Actions: []plugin.Action{
			{Name: "configure", Kind: plugin.Oneshot, Command: []string{"/bin/configure"}, TimeoutMS: 1000, Restart: plugin.RestartOnFailure},
			{Name: "serve", Command: []string{"/bin/serve"}, DependsOn: []plugin.Dependency{"configure"}, StopSignal: "SIGINT", Ready: []ready.Probe{{TCP: "127.0.0.1:1"}}},
		}}
	}
	is.New(t).NoErr(proc.Validate(good()))
	for want, spoil := range map[string]func(*plugin.ServiceSpec){
		`name: ""`:                        func(s *plugin.ServiceSpec) { s.Name = "" },
		`name: ".."`:                      func(s *plugin.ServiceSpec) { s.Name = ".." },
		`name: "a/b"`:                     func(s *plugin.ServiceSpec) { s.Name = "a/b" },
		`name: "a\nb"`:                    func(s *plugin.ServiceSpec) { s.Name = "a\nb" },
		`name: "hero_proc" is the`:        func(s *plugin.ServiceSpec) { s.Name = "hero_proc" },
		`ports.http: 65536`:               func(s *plugin.ServiceSpec) { s.Ports["http"] = 65536 },
		`actions[1].name: "` + long + `"`: func(s *plugin.ServiceSpec) { s.Actions[1].Name = long },
		`actions[1].name: "configure" is`: func(s *plugin.ServiceSpec) { s.Actions[1].Name = "configure" },
		`actions[1].depends_on[0]: unknown name "confgure"`:                 func(s *plugin.ServiceSpec) { s.Actions[1].DependsOn[0] = "confgure" },
		`actions[0].depends_on: cycle configure -> serve -> configure`:      func(s *plugin.ServiceSpec) { s.Actions[0].DependsOn = []plugin.Dependency{"serve"} },
		`actions[1].depends_on[0]: "done" is none of succeeded, completed`:  func(s *plugin.ServiceSpec) { s.Actions[1].DependsOn[0] = "configure:done" },
		`actions[1].depends_on[0]: "ready" is none of succeeded, completed`: func(s *plugin.ServiceSpec) { s.Actions[1].DependsOn[0] = "configure:ready" },
		`requires[0]: a service cannot wait`:                                func(s *plugin.ServiceSpec) { s.Requires = []string{"livekit"} },
		`after[1]: "db" is named twice`:                                     func(s *plugin.ServiceSpec) { s.After = []string{"db", "db"} },
		`after[0]: "a b" is not 1 to`:                                       func(s *plugin.ServiceSpec) { s.After = []string{"a b"} },
		`actions[1].kind: "daemon"`:                                         func(s *plugin.ServiceSpec) { s.Actions[1].Kind = "daemon" },
		`actions[1].restart: "sometimes"`:                                   func(s *plugin.ServiceSpec) { s.Actions[1].Restart = "sometimes" },
		`actions[0].restart: a oneshot`:                                     func(s *plugin.ServiceSpec) { s.Actions[0].Restart = plugin.RestartAlways },
		`actions[0].ready: a oneshot`:                                       func(s *plugin.ServiceSpec) { s.Actions[0].Ready = s.Actions[1].Ready },
		`actions[1].timeout_ms: only a oneshot`:                             func(s *plugin.ServiceSpec) { s.Actions[1].TimeoutMS = 1 },
		`actions[1].command: is empty`:                                      func(s *plugin.ServiceSpec) { s.Actions[1].Command = nil },
		`actions[1].command[0]: "serve" is not an absolute path`:            func(s *plugin.ServiceSpec) { s.Actions[1].Command[0] = "serve" },
		`actions[1].command[1]: contains a zero byte`:                       func(s *plugin.ServiceSpec) { s.Actions[1].Command = []string{"/x", "a\x00"} },
		`actions[1].cwd: "here" is not`:                                     func(s *plugin.ServiceSpec) { s.Actions[1].Cwd = "here" },
		`actions[1].env: "A=B" is not`:                                      func(s *plugin.ServiceSpec) { s.Actions[1].Env = map[string]string{"A=B": ""} },
		`actions[1].env.A: contains a zero byte`:                            func(s *plugin.ServiceSpec) { s.Actions[1].Env = map[string]string{"A": "\x00"} },
		`actions[1].env.HERO_PROC_JOB: is set by the supervisor`:            func(s *plugin.ServiceSpec) { s.Actions[1].Env = map[string]string{"HERO_PROC_JOB": "x"} },
		`actions[1].stop_signal: "STOP" is none of`:                         func(s *plugin.ServiceSpec) { s.Actions[1].StopSignal = "STOP" },
		`actions[1].stop_timeout_ms: -1 is negative`:                        func(s *plugin.ServiceSpec) { s.Actions[1].StopTimeoutMS = -1 },
		`actions[1].stop_delay_ms: 9223372036854775807 is more than`:        func(s *plugin.ServiceSpec) { s.Actions[1].StopDelayMS = 1<<63 - 1 },
		`actions[1].max_restarts: -3 is negative`:                           func(s *plugin.ServiceSpec) { s.Actions[1].MaxRestarts = -3 },
		`actions[1].ready[0]: a probe has exactly one`:                      func(s *plugin.ServiceSpec) { s.Actions[1].Ready[0].HTTP = "http://127.0.0.1" },
		`actions[1].ready[1]: a probe has exactly one of http, t`:           func(s *plugin.ServiceSpec) { s.Actions[1].Ready = append(s.Actions[1].Ready, ready.Probe{}) },
	} {
		t.Run(want, func(t *testing.T) {
			is := is.New(t)
			spec := good()
			spoil(&spec)
			err := proc.Validate(spec)
			is.True(err != nil)
			if !strings.HasPrefix(err.Error(), want) {
				t.Errorf("got  %s\nwant %s...", err, want)
			}
		})
	}
}

var long = strings.Repeat("x", 65)

// FuzzValidate checks that what is accepted is harmless where it is used: in
// paths, in an environment, as durations.
func FuzzValidate(f *testing.F) {
	f.Add([]byte(`{"name":"s","actions":[{"name":"a","command":["/bin/a","x"],"env":{"A":"b"},"depends_on":["b"]},{"name":"b","kind":"oneshot","command":["/b"]}]}`))
	f.Add([]byte(`{"name":"..","actions":[{"name":"../../etc","command":[""]}]}`))
	f.Add([]byte(`{"name":"s","actions":[{"name":"a","command":["/a"],"depends_on":["a"],"stop_timeout_ms":-1}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var spec plugin.ServiceSpec
		if json.Unmarshal(data, &spec) != nil || proc.Validate(spec) != nil {
			return
		}
		seen := map[string]bool{}
		for _, a := range spec.Actions {
			path := filepath.Join("/logs", spec.Name, a.Name+".log")
			if filepath.Dir(filepath.Dir(path)) != "/logs" || strings.ContainsAny(path, "\n\x00") {
				t.Errorf("path %q leads elsewhere", path)
			}
			if seen[a.Name] || len(a.Command) == 0 || !filepath.IsAbs(a.Command[0]) {
				t.Errorf("accepted %+v", a)
			}
			seen[a.Name] = true
			for _, n := range []int{a.StopTimeoutMS, a.StopDelayMS, a.RestartDelayMS, a.TimeoutMS} {
				if n < 0 || int64(n)*1_000_000 < 0 {
					t.Errorf("accepted duration %d", n)
				}
			}
			for k, v := range a.Env {
				if k == "" || strings.ContainsAny(k, "=\x00") || strings.Contains(v, "\x00") {
					t.Errorf("accepted variable %q", k)
				}
			}
		}
	})
}

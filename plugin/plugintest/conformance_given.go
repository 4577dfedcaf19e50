package plugintest

import (
	"os"
	"strings"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
	"golang.org/x/sys/unix"
)

// given checks what a process gets from the supervisor.
var given = map[string]func(*trial){
	"a process leads a session and a group":              (*trial).ownSession,
	"a process has the environment declared and no more": (*trial).environment,
	"a process has its folder, and no input":             (*trial).folder,
	"arguments arrive as they are":                       (*trial).arguments,
	"a process has the usual signals":                    (*trial).signals,
}

func (c *trial) ownSession() {
	c.up(c.stay("a"), c.stay("b"))
	for _, name := range []string{"a", "b"} {
		pid := c.reaches(name, plugin.Running).PID
		group, err := unix.Getpgid(pid)
		c.NoErr(err)
		c.Equal(group, pid)
		session, err := unix.Getsid(pid)
		c.NoErr(err)
		c.Equal(session, pid)
		c.Equal(c.action(name).PGID, pid)
	}
}

// declared is an environment with all that is easily mangled.
var declared = map[string]string{
	"MINE": "yes", "EMPTY": "", "HERO_SOCKET_DIR": "/elsewhere",
	"ODD": "two words, \"quotes\", 'more', $HOME, ${HOME}, `id`, \\n, %n %%, #, = and\ttab\nand a second line ; ünï",
}

// copied is a file as a oneshot itself sees it.
func (c *trial) copied(from string) string {
	c.t.Helper()
	c.up(oneshot(plugin.Action{
		Name: "copy", Command: []string{c.program("dd"), "status=none", "if=" + from, "of=" + c.file("copy")}, Env: declared,
	}))
	c.reaches("copy", plugin.Succeeded)
	b, err := os.ReadFile(c.file("copy"))
	c.NoErr(err)
	return string(b)
}

func (c *trial) environment() {
	got := map[string]string{}
	for entry := range strings.SplitSeq(strings.TrimSuffix(c.copied("/proc/self/environ"), "\x00"), "\x00") {
		name, value, _ := strings.Cut(entry, "=")
		got[name] = value
	}
	c.True(got["PATH_ROOT"] != "") // the Hero variables are there
	for name, value := range declared {
		c.Equal(got[name], value)
		delete(got, name)
	}
	for name := range got {
		if name != "PATH" && !strings.HasPrefix(name, "HERO_") && !strings.HasPrefix(name, "PATH_") {
			c.t.Errorf("variable %s was not declared", name)
		}
	}
}

func (c *trial) folder() {
	a := oneshot(c.shell("a", "cat; pwd > said"))
	c.up(a)
	c.reaches("a", plugin.Succeeded) // cat came to the end of its input
	c.Equal(c.words("said"), []string{c.dir})
}

func (c *trial) arguments() {
	a := oneshot(c.shell("a", `printf '%s|' "$@" > said`))
	args := []string{"", "two words", "$HOME", "${PATH}", "$$", "%n", "%%", `\n \x41`, `"quoted"`, "'", ";", "*", "~", "line\nbreak", "ünï", "-", "@"}
	a.Command = append(append(a.Command, "sh"), args...)
	c.up(a)
	c.reaches("a", plugin.Succeeded)
	b, err := os.ReadFile(c.file("said"))
	c.NoErr(err)
	c.Equal(string(b), strings.Join(args, "|")+"|")
}

func (c *trial) signals() {
	status := c.copied("/proc/self/status")
	c.True(strings.Contains(status, "SigBlk:\t0000000000000000\n")) // none is blocked
	c.True(strings.Contains(status, "SigIgn:\t0000000000000000\n")) // and none ignored
}

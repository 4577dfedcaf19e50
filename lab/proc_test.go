package main_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"
)

// TestAskingTheSupervisor goes through the commands that need neither bus nor
// plugins.
func TestAskingTheSupervisor(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := upInstallation(t)
	media := l.readyStatus().livekit().PID

	is.True(strings.Contains(l.must("proc", "ls").stdout, "hero_livekit_media"))
	is.True(strings.Contains(l.must("proc", "why", "hero_livekit_media").stdout, "configure: succeeded"))
	is.True(strings.Contains(l.must("proc", "tree", "hero_livekit_media").stdout, "depends on configure"))
	var tree struct {
		Actions []struct {
			Name      string
			Processes []struct{ PID int }
		}
	}
	is.NoErr(json.Unmarshal([]byte(l.must("proc", "tree", "hero_livekit_media", "--json").stdout), &tree))
	is.Equal(tree.Actions[1].Name, "livekit-server")
	is.Equal(tree.Actions[1].Processes[0].PID, media)

	bus := l.readyStatus().pid("hero_bus")
	l.must("proc", "kill", "hero_bus", "hero_bus")
	l.must("proc", "start", "hero_bus") // waits until it is ready
	is.True(l.readyStatus().pid("hero_bus") != bus)
	l.must("proc", "stop", "lab_host")
	l.must("proc", "start", "lab_host")
	is.True(strings.Contains(l.run("proc", "why", "nothing").stderr, "lab proc ls lists"))

	is.True(strings.Contains(l.must("proc", "secret", "ls", "livekit").stdout, "api_secret"))
	l.runWith("one\n", "proc", "secret", "create", "mine", "word").expect(t, 0)
	l.runWith("two\n", "proc", "secret", "create", "mine", "word").expect(t, 1)
	is.Equal(l.runQuietly("proc", "secret", "get", "mine", "word").stdout, "one\n")
	l.runWith("two", "proc", "secret", "rotate", "mine", "word").expect(t, 0)
	l.must("proc", "secret", "rekey")
	is.Equal(l.runQuietly("proc", "secret", "get", "mine", "word").stdout, "two\n")
	l.must("proc", "secret", "rm", "mine", "word")
	l.run("proc", "secret", "get", "mine", "word").expect(t, 1)
	is.Equal(l.readyStatus().livekit().PID, media)

	l.must("proc", "rm", "hero_livekit_media") // which its plugin does not bring back
	eventually(t, 30*time.Second, func() error {
		if strings.Contains(l.run("proc", "ls").stdout, "hero_livekit_media") {
			return errors.New("it is still there")
		}
		return nil
	})
	is.True(!alive(media))
}

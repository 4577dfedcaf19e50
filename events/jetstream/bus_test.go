package jetstream_test

import (
	"testing"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/events/eventstest"
)

func TestBus(t *testing.T) {
	t.Parallel()
	url := embedded(t)
	eventstest.Run(t, func(t *testing.T, node string) events.Bus { return connect(t, url, node) })
}

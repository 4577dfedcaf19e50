package eventstest_test

import (
	"testing"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/events/eventstest"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	bus := eventstest.NewBus()
	eventstest.Run(t, func(_ *testing.T, node string) events.Bus { return bus.At(node) })
}

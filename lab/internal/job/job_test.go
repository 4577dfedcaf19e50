package job_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/job"
	"github.com/matryer/is"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		graph job.Graph
		want  string
	}{
		"empty":                         {},
		"diamond":                       {job.Graph{{"a", nil}, {"b", []string{"a"}}, {"c", []string{"a"}}, {"d", []string{"b", "c"}}}, ""},
		"declared before what it needs": {job.Graph{{"b", []string{"a"}}, {"a", nil}}, ""},
		"duplicate":                     {job.Graph{{"a", nil}, {"b", nil}, {"a", nil}}, `actions[2].name: "a" is the name of actions[0] already`},
		"unknown":                       {job.Graph{{"a", nil}, {"b", []string{"a", "c"}}}, `actions[1].depends_on[1]: unknown name "c"`},
		"twice":                         {job.Graph{{"a", nil}, {"b", []string{"a", "a"}}}, `actions[1].depends_on[1]: "a" is named twice`},
		"itself":                        {job.Graph{{"a", []string{"a"}}}, "actions[0].depends_on: cycle a -> a"},
		"cycle": {job.Graph{{"x", []string{"a"}}, {"a", []string{"b"}}, {"b", []string{"c"}}, {"c", []string{"a"}}},
			"actions[1].depends_on: cycle a -> b -> c -> a"},
		"several": {job.Graph{{"a", []string{"p"}}, {"b", []string{"q"}}},
			"actions[0].depends_on[0]: unknown name \"p\"\nactions[1].depends_on[0]: unknown name \"q\""},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			err := c.graph.Validate("actions")
			if c.want == "" {
				is.NoErr(err)
				return
			}
			is.True(err != nil)
			is.Equal(err.Error(), c.want)
			var mistake *job.Error
			is.True(errors.As(err, &mistake)) // callers can have the path
		})
	}
}

func TestRunKeepsTheOrder(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var mu sync.Mutex
	var order []string
	graph := job.Graph{{"d", []string{"b", "c"}}, {"b", []string{"a"}}, {"c", []string{"a"}}, {"a", nil}}
	is.NoErr(job.Run(t.Context(), graph, func(_ context.Context, name string) error {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, name)
		return nil
	}))
	is.Equal(len(order), 4)
	is.Equal(order[0], "a")
	is.Equal(order[3], "d")
}

func TestRunAtTheSameTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		both := make(chan struct{})
		meet := func(_ context.Context, name string) error {
			if name == "a" {
				both <- struct{}{}
			} else {
				<-both
			}
			return nil
		}
		is.NoErr(job.Run(t.Context(), job.Graph{{"a", nil}, {"b", nil}}, meet)) // one after the other would block for ever
	})
}

func TestRunSkipsWhatNeedsAFailure(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var mu sync.Mutex
	ran := map[string]int{}
	graph := job.Graph{{"a", nil}, {"b", []string{"a"}}, {"c", []string{"b"}}, {"other", nil}}
	broken := errors.New("broken")
	err := job.Run(t.Context(), graph, func(_ context.Context, name string) error {
		mu.Lock()
		ran[name]++
		mu.Unlock()
		if name == "a" {
			return broken
		}
		return nil
	})
	is.True(errors.Is(err, broken))
	is.True(errors.Is(err, job.ErrSkipped))
	is.Equal(ran, map[string]int{"a": 1, "other": 1})
	is.True(strings.Contains(err.Error(), "b: skipped, it depends on a"))
	is.True(!strings.Contains(err.Error(), "other"))
}

func TestRunStopsWithItsContext(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := job.Run(ctx, job.Graph{{"a", nil}, {"b", []string{"a"}}}, func(ctx context.Context, name string) error {
		is.Equal(name, "a")
		cancel()
		<-ctx.Done()
		return nil
	})
	is.True(errors.Is(err, context.Canceled))
}

func TestRunRefusesACycle(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	err := job.Run(t.Context(), job.Graph{{"a", []string{"a"}}}, func(context.Context, string) error {
		t.Error("ran")
		return nil
	})
	is.True(err != nil)
}

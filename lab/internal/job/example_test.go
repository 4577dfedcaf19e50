package job_test

import (
	"context"
	"fmt"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/job"
)

func ExampleRun() {
	graph := job.Graph{
		{Name: "serve", DependsOn: []string{"configure"}},
		{Name: "configure"},
	}
	err := job.Run(context.Background(), graph, func(_ context.Context, name string) error {
		fmt.Println(name)
		return nil
	})
	fmt.Println(err)
	// Output:
	// configure
	// serve
	// <nil>
}

func ExampleGraph_Validate() {
	graph := job.Graph{{Name: "configure"}, {Name: "serve", DependsOn: []string{"confgure"}}}
	fmt.Println(graph.Validate("actions"))
	// Output: actions[1].depends_on[0]: unknown name "confgure"
}

package binary_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"forge.ourworld.tf/lhumina_code/lab/plugin/binary"
)

// A bare executable behind a URL, verified against a checksum file. The second
// time it comes from the store.
func ExampleStore_Acquire() {
	script := []byte("#!/bin/sh\necho hello\n")
	publisher := http.NewServeMux()
	publisher.HandleFunc("/v1.2.3/greet", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(script) })
	publisher.HandleFunc("/v1.2.3/SHA256SUMS", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%s  greet\n", sha256Of(script))
	})
	server := httptest.NewServer(publisher)
	defer server.Close()
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	store := binary.NewStore(dir, binary.Options{})
	spec := binary.Spec{Name: "greet", Version: "1.2.3", Sources: []binary.Source{
		{Kind: binary.KindInstalled, Path: "greet"},
		{
			Kind:         binary.KindRelease,
			URLs:         []string{server.URL + "/v{version}/{name}"},
			ChecksumsURL: server.URL + "/v{version}/SHA256SUMS",
		},
	}}
	for range 2 {
		got, err := store.Acquire(context.Background(), spec, func(p binary.Progress) {
			if p.Step == binary.StepSkipped {
				fmt.Printf("%s: %s\n", p.Source, p.Detail)
			}
		})
		fmt.Println(got.Name, got.Version, "from", got.Source, err)
	}
	// Output:
	// installed: no executable greet on this machine
	// greet 1.2.3 from release <nil>
	// greet 1.2.3 from store <nil>
}

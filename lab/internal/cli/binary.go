package cli

import (
	"errors"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/plugin/binary"
	"forge.ourworld.tf/lhumina_code/lab/plugin/manifest"
	"github.com/spf13/cobra"
)

func (a *App) binaryCommand() *cobra.Command {
	c := &cobra.Command{Use: "binary", Short: "Acquire external binaries"}
	c.AddCommand(a.getCommand())
	return c
}

func (a *App) getCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "get FILE.toml",
		Short: "Acquire the binary of a manifest into the store, verified",
		Long: `Acquires what the manifest's [binary] table describes and prints its path,
version and digest. The sources are tried in order; why one was passed over is
told. A binary that is in the store already, intact, is not touched.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			m, err := manifest.ReadFile(args[0])
			if err != nil {
				return err
			}
			paths, err := a.Paths()
			if err != nil {
				return err
			}
			var shown bar
			store := binary.NewStore(paths.Store(), binary.Options{Log: a.quiet()})
			got, err := store.Acquire(c.Context(), m.Binary, func(p binary.Progress) {
				shown.show(a.Stderr, events.AcquireProgress{
					Binary: m.Binary.Name, Version: m.Binary.Version, Source: p.Source,
					Step: p.Step, Bytes: p.Bytes, Total: p.Total, Detail: p.Detail,
				})
			})
			shown.done()
			if err != nil {
				return acquireError(err)
			}
			a.printAcquired(got)
			return nil
		},
	}
}

func (a *App) printAcquired(got binary.Installed) {
	if a.JSON {
		a.PrintJSON(map[string]any{
			"name": got.Name, "version": got.Version, "path": got.Path, "digest": got.Digest,
			"source": got.Source, "bytes": got.Bytes, "cached": got.Cached,
		})
		return
	}
	a.Say("%s %s\n  path    %s\n  digest  %s\n  source  %s", got.Name, got.Version, got.Path, got.Digest, got.Source)
}

// acquireFailure is the failure of an acquisition as the command line tells it.
type acquireFailure struct{ known *binary.Error }

func (e acquireFailure) Error() string { return e.known.Error() }

func (e acquireFailure) Unwrap() error { return e.known }

// JSON is the error for programs.
func (e acquireFailure) JSON() any {
	return map[string]string{"class": string(e.known.Class), "message": e.known.Message, "url": e.known.URL, "hint": e.known.Hint}
}

func acquireError(err error) error {
	var known *binary.Error
	if !errors.As(err, &known) {
		return err
	}
	return hinted(acquireFailure{known}, "%s", known.Hint)
}

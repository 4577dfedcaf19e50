// Command lab brings an external binary from a manifest to a supervised,
// proven-ready service, by events, so that restarting anything else never
// touches it. It is the command line and, run by the supervisor, every process
// of lab itself.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/cli"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return cli.Run(ctx, cli.Config{
		Version: version(), Plugins: plugins(), Media: media,
		Boxes: boxes, Commands: commands,
	}, args, stdin, stdout, stderr)
}

// version is that of the module, as far as the build knows it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}

package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"github.com/spf13/cobra"
)

// maxSecret is how long a secret may be, in bytes.
const maxSecret = 64 << 10

func (a *App) secretCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "secret",
		Short: "Create, read and replace secrets",
		Long: `Secrets belong to a context, such as livekit. Values are read from standard
input and never taken from the command line, which others can read.`,
	}
	c.AddCommand(
		a.storeSecretCommand("create", "created", "Store a value from standard input; fails where there is one", (*procclient.Client).CreateSecret),
		a.storeSecretCommand("rotate", "rotated", "Replace a value by the one from standard input; fails where there is none", (*procclient.Client).RotateSecret),
		a.withSupervisor("get CONTEXT NAME", "Print a value", 2, a.printSecret),
		a.withSupervisor("ls CONTEXT", "List the names in a context, and no values", 1, a.printSecrets),
		a.withSupervisor("rm CONTEXT NAME", "Forget a value", 2, func(ctx context.Context, client *procclient.Client, args []string) error {
			return a.did(client.DeleteSecret(ctx, args[0], args[1]), "forgot %s/%s", args[0], args[1])
		}),
		a.withSupervisor("rekey", "Encrypt all values by a new key, and forget the old one", 0, func(ctx context.Context, client *procclient.Client, _ []string) error {
			return a.did(client.RekeySecrets(ctx), "all secrets are encrypted by a new key")
		}),
	)
	return c
}

// storeSecretCommand is a command that stores what comes on standard input.
func (a *App) storeSecretCommand(name, done, short string, store func(*procclient.Client, context.Context, string, string, string) error) *cobra.Command {
	return a.withSupervisor(name+" CONTEXT NAME", short, 2, func(ctx context.Context, client *procclient.Client, args []string) error {
		value, err := io.ReadAll(io.LimitReader(a.Stdin, maxSecret+1))
		if err != nil {
			return fmt.Errorf("read value: %w", err)
		}
		if len(value) > maxSecret {
			return usagef("a secret has at most %d bytes", maxSecret)
		}
		err = store(client, ctx, args[0], args[1], strings.TrimSuffix(string(value), "\n"))
		return a.did(err, "%s %s/%s", done, args[0], args[1])
	})
}

func (a *App) printSecret(ctx context.Context, client *procclient.Client, args []string) error {
	value, err := client.GetSecret(ctx, args[0], args[1])
	if err != nil {
		return err
	}
	if a.JSON {
		a.PrintJSON(map[string]string{"context": args[0], "name": args[1], "value": value})
	} else {
		a.Say("%s", value)
	}
	return nil
}

func (a *App) printSecrets(ctx context.Context, client *procclient.Client, args []string) error {
	names, err := client.ListSecrets(ctx, args[0])
	if err != nil {
		return err
	}
	if a.JSON {
		a.PrintJSON(names)
		return nil
	}
	for _, name := range names {
		a.Say("%s", name)
	}
	return nil
}

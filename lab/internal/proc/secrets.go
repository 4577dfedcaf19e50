//go:build linux

package proc

import (
	"context"
	"database/sql"
	"fmt"

	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

// createSecret stores a value where there is none.
func (s *store) createSecret(ctx context.Context, context, name, value string) error {
	return s.transact(ctx, func(tx *sql.Tx) error {
		return changed(tx.ExecContext(ctx, "insert or ignore into secrets (context, name, value) values (?, ?, ?)", context, name, value))(
			fmt.Errorf("secret %s/%s: %w", context, name, plugin.ErrExists))
	})
}

// setSecret stores a value, in place of what is there.
func (s *store) setSecret(ctx context.Context, context, name, value string) error {
	return s.transact(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "insert or replace into secrets (context, name, value) values (?, ?, ?)", context, name, value)
		return err
	})
}

// deleteSecret forgets a value.
func (s *store) deleteSecret(ctx context.Context, context, name string) error {
	return s.transact(ctx, func(tx *sql.Tx) error {
		return changed(tx.ExecContext(ctx, "delete from secrets where context = ? and name = ?", context, name))(noSecret(context, name))
	})
}

// getSecret returns a value.
func (s *store) getSecret(ctx context.Context, context, name string) (value string, err error) {
	found := false
	err = s.each(ctx, "select value from secrets where context = ? and name = ?", func(scan scanner) error {
		found = true
		return scan(&value)
	}, context, name)
	if err == nil && !found {
		err = noSecret(context, name)
	}
	return value, err
}

// listSecrets returns the names in a context.
func (s *store) listSecrets(ctx context.Context, context string) ([]string, error) {
	names := []string{}
	err := s.each(ctx, "select name from secrets where context = ? order by name", appendTo(&names), context)
	return names, err
}

// secretValues returns all values, to be blotted out of texts.
func (s *store) secretValues(ctx context.Context) ([]string, error) {
	var values []string
	err := s.each(ctx, "select value from secrets", appendTo(&values))
	return secretValues(values), err
}

func appendTo(list *[]string) func(scanner) error {
	return func(scan scanner) error {
		var v string
		err := scan(&v)
		*list = append(*list, v)
		return err
	}
}

func noSecret(context, name string) error {
	return fmt.Errorf("secret %s/%s: %w", context, name, plugin.ErrNotFound)
}

// changed returns a function that gives its argument when a statement was
// carried out and changed nothing.
func changed(result sql.Result, err error) func(error) error {
	return func(nothing error) error {
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if err == nil && n == 0 {
			return nothing
		}
		return err
	}
}

//go:build linux

package proc

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	"forge.ourworld.tf/lhumina_code/lab/plugin"
)

// named is the context that a secret belongs to.
func named(context string) string {
	if context == "" {
		return defaultContext
	}
	return context
}

func (s *supervisor) createSecret(ctx context.Context, p procclient.Secret) (bool, error) {
	if err := checkSecret(p); err != nil {
		return false, refuse(err)
	}
	err := s.store.createSecret(ctx, named(p.Context), p.Name, p.Value)
	return err == nil, answer(err)
}

func (s *supervisor) setSecret(ctx context.Context, p procclient.Secret) (bool, error) {
	if err := checkSecret(p); err != nil {
		return false, refuse(err)
	}
	err := s.store.setSecret(ctx, named(p.Context), p.Name, p.Value)
	return err == nil, answer(err)
}

// rotateSecret puts a value in place of another.
func (s *supervisor) rotateSecret(ctx context.Context, p procclient.Secret) (bool, error) {
	if err := checkSecret(p); err != nil {
		return false, refuse(err)
	}
	err := s.store.rotateSecret(ctx, named(p.Context), p.Name, p.Value)
	return err == nil, answer(err)
}

// rekeySecrets seals all values by a new key and forgets the old one.
func (s *supervisor) rekeySecrets(ctx context.Context) (bool, error) {
	err := s.store.rekey(ctx)
	return err == nil, answer(err)
}

func (s *supervisor) getSecret(ctx context.Context, p procclient.Secret) (string, error) {
	value, err := s.store.getSecret(ctx, named(p.Context), p.Name)
	return value, answer(err)
}

func (s *supervisor) listSecrets(ctx context.Context, p procclient.SecretContext) ([]string, error) {
	names, err := s.store.listSecrets(ctx, named(p.Context))
	return names, answer(err)
}

func (s *supervisor) deleteSecret(ctx context.Context, p procclient.Secret) (bool, error) {
	err := s.store.deleteSecret(ctx, named(p.Context), p.Name)
	return err == nil, answer(err)
}

// checkSecret refuses what could not be found again, or is no secret.
func checkSecret(p procclient.Secret) error {
	var errs problems
	errs.name("name", p.Name)
	errs.name("context", named(p.Context))
	if p.Value == "" {
		errs.add("value", "is empty")
	}
	if len(errs) > 0 {
		return errs[0]
	}
	return nil
}

// createSecret stores a value where there is none.
func (s *store) createSecret(ctx context.Context, context, name, value string) error {
	return s.putSecret(ctx, context, name, value, "insert or ignore into secrets (value, context, name) values (?, ?, ?)", plugin.ErrExists)
}

// setSecret stores a value, in place of what is there.
func (s *store) setSecret(ctx context.Context, context, name, value string) error {
	return s.putSecret(ctx, context, name, value, "insert or replace into secrets (value, context, name) values (?, ?, ?)", nil)
}

// rotateSecret stores a value in place of the one that is there.
func (s *store) rotateSecret(ctx context.Context, context, name, value string) error {
	return s.putSecret(ctx, context, name, value, "update secrets set value = ? where context = ? and name = ?", plugin.ErrNotFound)
}

// putSecret stores a value by a statement; one that changes nothing is answered
// with the error otherwise.
func (s *store) putSecret(ctx context.Context, context, name, value, statement string, otherwise error) error {
	return s.withKeys(ctx, func(ring *keyring) error {
		sealed, err := ring.seal(context, name, value)
		if err != nil {
			return err
		}
		return s.transact(ctx, func(tx *sql.Tx) error {
			return changed(tx.ExecContext(ctx, statement, sealed, context, name))(
				fmt.Errorf("secret %s/%s: %w", context, name, otherwise))
		})
	})
}

// deleteSecret forgets a value.
func (s *store) deleteSecret(ctx context.Context, context, name string) error {
	return s.transact(ctx, func(tx *sql.Tx) error {
		return changed(tx.ExecContext(ctx, "delete from secrets where context = ? and name = ?", context, name))(noSecret(context, name))
	})
}

// sealedSecret is a secret as it is stored.
type sealedSecret struct{ context, name, value string }

// secrets returns what is stored of secrets.
func (s *store) secrets(ctx context.Context) (list []sealedSecret, err error) {
	err = s.each(ctx, "select context, name, value from secrets", func(scan scanner) error {
		var one sealedSecret
		err := scan(&one.context, &one.name, &one.value)
		list = append(list, one)
		return err
	})
	return list, err
}

// withKeys has fn work with the keys of the secrets, which nobody else does
// meanwhile. A file of keys that was missing is looked for again.
func (s *store) withKeys(ctx context.Context, fn func(*keyring) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ring == nil {
		stored, err := s.secrets(ctx)
		if err != nil {
			return err
		}
		ring, err := openKeyring(s.keys, len(stored) == 0)
		if err != nil {
			return err
		}
		s.ring = ring
	}
	return fn(s.ring)
}

// rekey seals all values by a new key. Until they are, the file holds the old
// one too: whenever this is cut short, everything opens.
func (s *store) rekey(ctx context.Context) error {
	return s.withKeys(ctx, func(ring *keyring) error {
		if err := ring.add(); err != nil {
			return err
		}
		stored, err := s.secrets(ctx)
		if err != nil {
			return err
		}
		err = s.transact(ctx, func(tx *sql.Tx) error { return sealAll(ctx, tx, ring, stored, ring.open) })
		if err != nil {
			return err
		}
		return ring.dropOld()
	})
}

// sealAll stores every secret sealed by the last key of the ring, from what is
// stored of it and how that is opened.
func sealAll(ctx context.Context, tx *sql.Tx, ring *keyring, stored []sealedSecret, open func(context, name, stored string) (string, error)) error {
	for _, one := range stored {
		value, err := open(one.context, one.name, one.value)
		if err != nil {
			return err
		}
		sealed, err := ring.seal(one.context, one.name, value)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "update secrets set value = ? where context = ? and name = ?", sealed, one.context, one.name); err != nil {
			return fmt.Errorf("seal secret %s/%s: %w", one.context, one.name, err)
		}
	}
	return nil
}

// getSecret returns a value.
func (s *store) getSecret(ctx context.Context, context, name string) (value string, err error) {
	err = s.withKeys(ctx, func(ring *keyring) error {
		var sealed *string
		err := s.each(ctx, "select value from secrets where context = ? and name = ?", func(scan scanner) error {
			return scan(&sealed)
		}, context, name)
		if err == nil && sealed == nil {
			err = noSecret(context, name)
		}
		if err == nil {
			value, err = ring.open(context, name, *sealed)
		}
		return err
	})
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
	err := s.withKeys(ctx, func(ring *keyring) error {
		stored, err := s.secrets(ctx)
		for _, one := range stored {
			value, damage := ring.open(one.context, one.name, one.value)
			err = errors.Join(err, damage)
			values = append(values, value)
		}
		return err
	})
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

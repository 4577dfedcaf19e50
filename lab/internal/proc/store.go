//go:build linux

package proc

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"forge.ourworld.tf/lhumina_code/lab/events"
	"forge.ourworld.tf/lhumina_code/lab/lab/internal/procclient"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// schema is the layout of the store; version counts its changes.
const (
	version = 2
	schema  = `
create table services (name text primary key, wanted text not null, spec text not null, data text not null);
create table jobs (service text, action text, data text not null, primary key (service, action));
create table secrets (context text, name text, value text not null, primary key (context, name));
create table events (seq integer primary key autoincrement, time integer not null, data text not null);
create table settings (name text primary key, value text not null);
pragma user_version = 2;`
)

// The bounds of the log of events: so many are kept, and a few more until it
// is worth to cut.
const (
	keptEvents = 10_000
	cutEvery   = 500
)

// store keeps the model on disk. It may be used by many goroutines.
type store struct {
	db   *sql.DB
	keys string // the file of the keys that seal secrets

	prepared map[string]*sql.Stmt // what is written all the time

	mu   sync.Mutex
	ring *keyring // nil: not needed yet, or not to be had
}

// openStore opens the store at path, whose secrets are sealed by the keys in
// another file, and makes it where there is none. An error means that nothing
// was changed.
func openStore(ctx context.Context, path, keys string) (*store, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) // SQLite would make it readable to others
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	name := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: url.Values{
		"_pragma": {"busy_timeout(1000)", "journal_mode(WAL)", "synchronous(FULL)", "secure_delete(on)"},
		"_txlock": {"immediate"},
	}.Encode()}
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	db.SetMaxOpenConns(1) // one writer; reads are short
	s := &store{db: db, keys: keys, prepared: map[string]*sql.Stmt{}}
	if err := s.prepare(ctx); err != nil {
		err = fmt.Errorf("%w: store %s: %w; mend it from a copy, or move it away: then nothing is known of services, secrets and what runs", ErrBroken, path, err)
		return nil, errors.Join(err, db.Close())
	}
	for _, query := range []string{saveJob, logEvent} {
		stmt, err := db.PrepareContext(ctx, query)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%w: store %s: %w", ErrBroken, path, err), db.Close())
		}
		s.prepared[query] = stmt // closed with the store
	}
	return s, nil
}

// What is written while a process waits to be started.
const (
	saveJob  = "insert or replace into jobs (service, action, data) values (?, ?, ?)"
	logEvent = "insert into events (time, data) values (?, ?)"
)

// prepare checks that the store is whole, and brings its layout up to date.
func (s *store) prepare(ctx context.Context) error {
	var verdict string
	if err := s.db.QueryRowContext(ctx, "pragma quick_check(1)").Scan(&verdict); err != nil {
		return fmt.Errorf("is damaged: %w", err)
	}
	if verdict != "ok" {
		return fmt.Errorf("is damaged: %s", verdict)
	}
	var have int
	if err := s.db.QueryRowContext(ctx, "pragma user_version").Scan(&have); err != nil {
		return fmt.Errorf("read version: %w", err)
	}
	switch have {
	case version:
		return nil
	case 0:
		return s.transact(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, schema)
			return err
		})
	case 1:
		return s.sealPlain(ctx)
	}
	return fmt.Errorf("has version %d of the layout, this program knows %d: use the newer program", have, version)
}

// sealPlain brings the store from version 1 of the layout, where secrets were
// stored as they are, to 2, and leaves nothing of them in the file.
func (s *store) sealPlain(ctx context.Context) error {
	stored, err := s.secrets(ctx)
	if err != nil {
		return err
	}
	ring, err := openKeyring(s.keys, true)
	if err != nil {
		return err
	}
	plain := func(_, _, stored string) (string, error) { return stored, nil }
	err = s.transact(ctx, func(tx *sql.Tx) error {
		err := sealAll(ctx, tx, ring, stored, plain)
		if err == nil {
			_, err = tx.ExecContext(ctx, "pragma user_version = 2")
		}
		return err
	})
	if err == nil {
		_, err = s.db.ExecContext(ctx, "vacuum; pragma wal_checkpoint(truncate)")
	}
	return err
}

func (s *store) close() error { return s.db.Close() }

// transact has fn make changes that survive the machine.
func (s *store) transact(ctx context.Context, fn func(*sql.Tx) error) error {
	return s.commit(ctx, "full", fn)
}

// commit has fn make changes, all or none. With "full" they survive the
// machine when it returns; with "normal" they survive every process, and if
// the machine falls, it may fall to an earlier moment.
func (s *store) commit(ctx context.Context, synchronous string, fn func(*sql.Tx) error) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("begin to write store: %w", err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "pragma synchronous = "+synchronous); err != nil {
		return fmt.Errorf("begin to write store: %w", err)
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin to write store: %w", err)
	}
	if err := fn(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("write store: %w", err)
	}
	return nil
}

// batch is a set of changes that are made together or not at all.
type batch struct {
	services map[string]*registration // nil: forget it
	jobs     map[key]*record          // nil: forget it
	events   []event
	leaving  **leaving // set when it changed; nil: not any more
}

// key names an action.
type key struct{ service, action string }

// event is a change of state that is about to be logged.
type event struct {
	time time.Time
	data events.JobState
}

func (b batch) empty() bool {
	return len(b.services) == 0 && len(b.jobs) == 0 && len(b.events) == 0 && b.leaving == nil
}

// write makes the changes. Without any it finds out whether it could.
//
// What is wanted survives the machine. What runs need not: when the machine has
// fallen nothing of it does any more, and the boot ID says so.
func (s *store) write(ctx context.Context, b batch) error {
	synchronous := "normal"
	if len(b.services) > 0 || b.leaving != nil || b.empty() {
		synchronous = "full"
	}
	return s.commit(ctx, synchronous, func(tx *sql.Tx) error {
		w := writer{ctx: ctx, tx: tx, prepared: s.prepared}
		if b.empty() {
			w.exec("insert or replace into settings (name, value) values ('tried', ?)", time.Now().Unix())
		}
		for name, r := range b.services {
			if r == nil {
				w.exec("delete from services where name = ?", name)
				continue
			}
			w.exec("insert or replace into services (name, wanted, spec, data) values (?, ?, ?, ?)",
				name, r.Wanted, w.json(r.Spec), w.json(r.registrationData))
		}
		for k, r := range b.jobs {
			if r == nil {
				w.exec("delete from jobs where service = ? and action = ?", k.service, k.action)
				continue
			}
			w.exec(saveJob, k.service, k.action, w.json(r))
		}
		for _, e := range b.events {
			w.event(e)
		}
		if b.leaving != nil && *b.leaving == nil {
			w.exec("delete from settings where name = 'leaving'")
		} else if b.leaving != nil {
			w.exec("insert or replace into settings (name, value) values ('leaving', ?)", w.json(*b.leaving))
		}
		return w.err
	})
}

// writer makes the writes of one transaction and keeps the first error.
type writer struct {
	ctx context.Context // of the one transaction that the writer is for
	tx  *sql.Tx
	err error

	prepared map[string]*sql.Stmt
}

func (w *writer) exec(query string, args ...any) (id int64) {
	if w.err != nil {
		return 0
	}
	exec := func() (sql.Result, error) { return w.tx.ExecContext(w.ctx, query, args...) }
	if stmt := w.prepared[query]; stmt != nil {
		exec = func() (sql.Result, error) { return w.tx.StmtContext(w.ctx, stmt).ExecContext(w.ctx, args...) }
	}
	result, err := exec()
	if err != nil {
		w.err = fmt.Errorf("write store: %w", err)
		return 0
	}
	id, w.err = result.LastInsertId()
	return id
}

func (w *writer) json(v any) string {
	b, err := json.Marshal(v)
	w.err = errors.Join(w.err, err)
	return string(b)
}

func (w *writer) event(e event) {
	seq := w.exec(logEvent, e.time.UnixNano(), w.json(e.data))
	if seq%cutEvery == 0 {
		w.exec("delete from events where seq <= ?", seq-keptEvents)
	}
}

// load reads the whole model.
func (s *store) load(ctx context.Context) (regs []registration, records []record, leave *leaving, err error) {
	err = s.each(ctx, "select wanted, spec, data from services order by name", func(scan scanner) error {
		var r registration
		var spec, data []byte
		if err := scan(&r.Wanted, &spec, &data); err != nil {
			return err
		}
		regs = append(regs, r)
		last := &regs[len(regs)-1]
		return errors.Join(json.Unmarshal(spec, &last.Spec), json.Unmarshal(data, &last.registrationData))
	})
	if err == nil {
		err = s.each(ctx, "select data from jobs order by service, action", func(scan scanner) error {
			var data []byte
			if err := scan(&data); err != nil {
				return err
			}
			var r record
			err := json.Unmarshal(data, &r)
			records = append(records, r)
			return err
		})
	}
	if err == nil {
		err = s.each(ctx, "select value from settings where name = 'leaving'", func(scan scanner) error {
			var data []byte
			if err := scan(&data); err != nil {
				return err
			}
			return json.Unmarshal(data, &leave)
		})
	}
	return regs, records, leave, err
}

type scanner func(dest ...any) error

func (s *store) each(ctx context.Context, query string, row func(scanner) error, args ...any) error {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("read store: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return fmt.Errorf("read store: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read store: %w", err)
	}
	return nil
}

// eventsAfter returns at most limit events that follow the position.
func (s *store) eventsAfter(ctx context.Context, after int64, limit int) (list []procclient.Event, err error) {
	err = s.each(ctx, "select seq, time, data from events where seq > ? order by seq limit ?", func(scan scanner) error {
		var seq, at int64
		var data []byte
		if err := scan(&seq, &at, &data); err != nil {
			return err
		}
		e := procclient.Event{Seq: seq, Time: time.Unix(0, at).UTC(), JobState: new(events.JobState)}
		list = append(list, e)
		return json.Unmarshal(data, e.JobState)
	}, after, limit)
	return list, err
}

// position is that of the last event ever written.
func (s *store) position(ctx context.Context) (seq int64, err error) {
	err = s.each(ctx, "select seq from sqlite_sequence where name = 'events'", func(scan scanner) error { return scan(&seq) })
	return seq, err
}

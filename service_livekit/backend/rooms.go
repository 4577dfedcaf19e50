package backend

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	_ "modernc.org/sqlite" // the driver: SQLite without a C compiler
)

// Room is a room that a token was signed for.
type Room struct {
	Name        string    `json:"name"`
	CreatedAt   time.Time `json:"created_at"`
	LastTokenAt time.Time `json:"last_token_at"`
}

// rooms remembers rooms in SQLite. What remember returned from is on disk.
type rooms struct{ db *sql.DB }

func openRooms(ctx context.Context, path string) (*rooms, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) // SQLite would let others read it
	if err != nil {
		return nil, fmt.Errorf("open rooms: %w", err)
	}
	if err := errors.Join(f.Chmod(0o600), f.Close()); err != nil {
		return nil, fmt.Errorf("open rooms: %w", err)
	}
	dsn := url.URL{Scheme: "file", Opaque: url.PathEscape(path), RawQuery: url.Values{
		"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(5000)"},
	}.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, fmt.Errorf("open rooms: %w", err)
	}
	db.SetMaxOpenConns(1)
	_, err = db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS rooms (
		name          TEXT PRIMARY KEY,
		created_at    INTEGER NOT NULL, -- Unix milliseconds
		last_token_at INTEGER NOT NULL
	) STRICT`)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open rooms in %s: %w (moved away, it is made anew: only the list of rooms is lost)", path, err), db.Close())
	}
	return &rooms{db}, nil
}

func (r *rooms) remember(ctx context.Context, name string, now time.Time) error {
	_, err := r.db.ExecContext(ctx, `INSERT INTO rooms VALUES (?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET last_token_at = excluded.last_token_at`, name, now.UnixMilli(), now.UnixMilli())
	return err
}

// list returns the rooms, the one used last first.
func (r *rooms) list(ctx context.Context) ([]Room, error) {
	rows, err := r.db.QueryContext(ctx, `SELECT name, created_at, last_token_at FROM rooms ORDER BY last_token_at DESC, name LIMIT 10000`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := []Room{}
	for rows.Next() {
		var room Room
		var created, last int64
		if err := rows.Scan(&room.Name, &created, &last); err != nil {
			return nil, err
		}
		room.CreatedAt, room.LastTokenAt = time.UnixMilli(created), time.UnixMilli(last)
		list = append(list, room)
	}
	return list, rows.Err()
}

func (r *rooms) check(ctx context.Context) error {
	var one int
	return r.db.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT 1 FROM rooms LIMIT 1)`).Scan(&one)
}

func (r *rooms) close() error { return r.db.Close() }

package jetstream

import (
	"fmt"
	"log/slog"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
)

var _ server.Logger = (*serverLog)(nil)

// serverLog hands on what the embedded server logs, and keeps why it gave up.
// What the server takes notice of is of no use to others: it is debugging here.
type serverLog struct {
	log *slog.Logger

	mu    sync.Mutex
	death string
}

// Noticef logs for debugging.
func (l *serverLog) Noticef(format string, v ...any) { l.say(l.log.Debug, format, v) }

// Warnf logs a warning.
func (l *serverLog) Warnf(format string, v ...any) { l.say(l.log.Warn, format, v) }

// Errorf logs an error.
func (l *serverLog) Errorf(format string, v ...any) { l.say(l.log.Error, format, v) }

// Debugf logs for debugging.
func (l *serverLog) Debugf(format string, v ...any) { l.say(l.log.Debug, format, v) }

// Tracef logs nothing: a trace quotes what clients send.
func (l *serverLog) Tracef(string, ...any) {}

// Fatalf keeps the reason. The server does not run on, but neither does it end
// the process.
func (l *serverLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.death == "" {
		l.death = fmt.Sprintf(format, v...)
	}
}

// fatal returns why the server gave up, empty when it did not.
func (l *serverLog) fatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.death
}

func (l *serverLog) say(log func(string, ...any), format string, v []any) {
	log("embedded server", "message", fmt.Sprintf(format, v...))
}

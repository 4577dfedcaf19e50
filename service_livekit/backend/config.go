// Package backend is lk-backend: it signs join tokens for callers that show
// its bearer secret, and remembers for which rooms.
//
// It listens on loopback only. GET /health is for anybody; everything else
// needs "Authorization: Bearer SECRET". No token and no secret is ever logged.
package backend

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/joho/godotenv"
)

// The variables of backend.env. They are read from the file and are never in
// the environment of a process.
const (
	EnvKey    = "LIVEKIT_API_KEY"
	EnvSecret = "LIVEKIT_API_SECRET"
	EnvURL    = "LIVEKIT_URL"
	EnvBearer = "BACKEND_BEARER"
	EnvPort   = "PORT"
	EnvSQLite = "SQLITE_PATH"
)

// minSecret is how short a secret must not be, in bytes.
const minSecret = 32

// Config is what lk-backend needs to know. All of it is required but Log.
type Config struct {
	Key, Secret string // that livekit-server shares
	URL         string // where participants connect: ws://host:port
	Bearer      string // that callers show
	Port        int    // on loopback
	SQLite      string // path of the database
	Log         *slog.Logger
}

// LoadConfig reads backend.env. The errors name variables and no values.
func LoadConfig(file string) (Config, error) {
	env, err := godotenv.Read(file)
	if err != nil {
		return Config{}, fmt.Errorf("read %s: it is missing or damaged; lab service livekit --restart writes it anew", file)
	}
	port, _ := strconv.Atoi(env[EnvPort])
	c := Config{
		Key: env[EnvKey], Secret: env[EnvSecret], URL: env[EnvURL],
		Bearer: env[EnvBearer], Port: port, SQLite: env[EnvSQLite],
	}
	if err := c.validate(); err != nil {
		return Config{}, fmt.Errorf("read %s: %w; lab service livekit --restart writes it anew", file, err)
	}
	return c, nil
}

func (c Config) validate() error {
	var problems []error
	for name, ok := range map[string]bool{
		EnvKey: c.Key != "", EnvURL: c.URL != "", EnvSQLite: c.SQLite != "",
		EnvPort: c.Port > 0 && c.Port < 1<<16,
	} {
		if !ok {
			problems = append(problems, fmt.Errorf("%s is missing or wrong", name))
		}
	}
	for name, secret := range map[string]string{EnvSecret: c.Secret, EnvBearer: c.Bearer} {
		if len(secret) < minSecret {
			problems = append(problems, fmt.Errorf("%s is missing or shorter than %d characters", name, minSecret))
		}
	}
	return errors.Join(problems...)
}

package backend

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// The lifetimes of a join token, which only matter at the moment of joining.
const (
	defaultTTL = time.Hour
	maxTTL     = 24 * time.Hour
	skew       = 10 * time.Second // that clocks may be apart
)

// maxName is how long the name of a room or participant may be, in bytes.
const maxName = 256

// TokenRequest asks for a join token.
type TokenRequest struct {
	Room       string `json:"room"`
	Identity   string `json:"identity"`
	TTLSeconds int    `json:"ttl_seconds,omitempty"` // default 3600, at most 86400
	Probe      bool   `json:"probe,omitempty"`       // only to see whether it is accepted: the room is not remembered
}

// Token is a join token and where to use it.
type Token struct {
	URL       string    `json:"url"`
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expires_at"`
}

// Validate refuses what no token can be made of.
func (r TokenRequest) Validate() error {
	ttl := time.Duration(r.TTLSeconds) * time.Second
	if r.TTLSeconds < 0 || r.TTLSeconds > int(maxTTL/time.Second) || ttl < 0 {
		return fmt.Errorf("ttl_seconds: expected 1 to %d", int(maxTTL/time.Second))
	}
	return errors.Join(validName("room", r.Room), validName("identity", r.Identity))
}

func validName(field, name string) error {
	switch {
	case strings.TrimSpace(name) == "":
		return fmt.Errorf("%s is missing", field)
	case len(name) > maxName:
		return fmt.Errorf("%s has %d bytes, at most %d are allowed", field, len(name), maxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("%s has characters that no name has", field)
	}
	return nil
}

// grant is LiveKit's claim "video".
type grant struct {
	Room           string `json:"room,omitempty"`
	RoomJoin       bool   `json:"roomJoin,omitempty"`
	RoomList       bool   `json:"roomList,omitempty"`
	CanPublish     bool   `json:"canPublish,omitempty"`
	CanSubscribe   bool   `json:"canSubscribe,omitempty"`
	CanPublishData bool   `json:"canPublishData,omitempty"`
}

type claims struct {
	jwt.RegisteredClaims
	Video grant `json:"video"`
}

// signer signs what livekit-server accepts.
type signer struct{ key, secret string }

func (s signer) sign(identity string, ttl time.Duration, now time.Time, g grant) (string, error) {
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: s.key, Subject: identity, ID: uuid.NewString(),
			NotBefore: jwt.NewNumericDate(now.Add(-skew)), ExpiresAt: jwt.NewNumericDate(now.Add(ttl)),
		},
		Video: g,
	}).SignedString([]byte(s.secret))
}

// join signs a token with which the identity may join the room and talk.
func (s signer) join(r TokenRequest, now time.Time) (string, time.Time, error) {
	ttl := defaultTTL
	if r.TTLSeconds > 0 {
		ttl = time.Duration(r.TTLSeconds) * time.Second
	}
	token, err := s.sign(r.Identity, ttl, now, grant{Room: r.Room, RoomJoin: true, CanPublish: true, CanSubscribe: true, CanPublishData: true})
	return token, now.Add(ttl).Truncate(time.Second), err
}

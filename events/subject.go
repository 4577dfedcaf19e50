package events

import (
	"errors"
	"fmt"
	"strings"
)

var errNoNode = errors.New("name of the node is empty")

// MaxSubject is the length in bytes that no NATS subject of ours exceeds.
const MaxSubject = 512

// Subject returns the NATS subject hero.NODE.NOUN.ENTITY.WHAT on which e
// travels, with every token encoded by [Token].
func Subject(node string, e Event) (string, error) {
	if node == "" {
		return "", errNoNode
	}
	noun, what, err := split(e.Type())
	if err != nil {
		return "", err
	}
	entity := Entity(e)
	if entity == "" {
		return "", fmt.Errorf("event %s has no entity", e.Type())
	}
	subject := strings.Join([]string{"hero", Token(node), noun, Token(entity), what}, ".")
	if len(subject) > MaxSubject {
		return "", fmt.Errorf("subject of %s has %d bytes, at most %d are allowed", e.Type(), len(subject), MaxSubject)
	}
	return subject, nil
}

// Filter returns the subject pattern that matches the events of one full type
// at the node, or all of the node's events for the empty type.
func Filter(node, typ string) (string, error) {
	if node == "" {
		return "", errNoNode
	}
	if typ == "" {
		return "hero." + Token(node) + ".>", nil
	}
	noun, what, err := split(typ)
	if err != nil {
		return "", err
	}
	return strings.Join([]string{"hero", Token(node), noun, "*", what}, "."), nil
}

// Token encodes s as one token of a NATS subject: letters, digits, "-" and "_"
// stand for themselves, every other byte is "=" and two hexadecimal digits.
func Token(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "=%02X", c)
	}
	return b.String()
}

// split takes "tf.ourworld.hero.media.ready.v1" apart into "media" and "ready".
func split(typ string) (noun, what string, err error) {
	parts := strings.Split(strings.TrimPrefix(typ, Prefix), ".")
	if !strings.HasPrefix(typ, Prefix) || len(parts) != 3 || parts[0] == "" || parts[1] == "" || !strings.HasPrefix(parts[2], "v") {
		return "", "", fmt.Errorf("event type %q is not %sNOUN.WHAT.vN", typ, Prefix)
	}
	return Token(parts[0]), Token(parts[1]), nil
}

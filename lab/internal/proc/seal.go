//go:build linux

package proc

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/google/renameio/v2"
)

// keySize is that of a key, in bytes: AES-256.
const keySize = 32

// errSealed says that a stored value cannot be read with the keys there are.
var errSealed = errors.New("is sealed by a key that is not in the file of keys")

// keyring seals what is stored of secrets, so that a copy of the store alone
// tells nothing. Its file has one key a line, in base64. The last one seals;
// while values are being sealed anew there are two, and both open.
type keyring struct {
	path string
	keys [][]byte
}

// openKeyring reads the file of keys. Where there is none it is made if fresh,
// and an error if not: something is sealed by what it held.
func openKeyring(path string, fresh bool) (*keyring, error) {
	k := &keyring{path: path}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && fresh {
		return k, k.add()
	}
	if errors.Is(err, os.ErrNotExist) {
		return k, fmt.Errorf("the file of keys %s is missing: put it back from a copy, or delete the secrets and create them anew", path)
	}
	if err != nil {
		return k, fmt.Errorf("read keys of secrets: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil { // whoever loosened it
		return k, fmt.Errorf("close keys of secrets to others: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(line))
		if err != nil || len(key) != keySize {
			return k, fmt.Errorf("the file of keys %s is damaged: put it back from a copy", path)
		}
		k.keys = append(k.keys, key)
	}
	if len(k.keys) == 0 {
		return k, fmt.Errorf("the file of keys %s is empty: put it back from a copy", path)
	}
	return k, nil
}

// add makes a new key, by which values are sealed from now on.
func (k *keyring) add() error {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // it never fails
	return k.replace(append(k.keys[:len(k.keys):len(k.keys)], key))
}

// dropOld forgets all keys but the last.
func (k *keyring) dropOld() error { return k.replace(k.keys[len(k.keys)-1:]) }

// replace writes the file of keys, whole or not at all.
func (k *keyring) replace(keys [][]byte) error {
	var text strings.Builder
	for _, key := range keys {
		fmt.Fprintln(&text, base64.StdEncoding.EncodeToString(key))
	}
	if err := renameio.WriteFile(k.path, []byte(text.String()), 0o600, renameio.WithStaticPermissions(0o600)); err != nil {
		return fmt.Errorf("write keys of secrets: %w", err)
	}
	k.keys = keys
	return nil
}

// seal makes of a value what is stored of it. It opens only under its own name.
func (k *keyring) seal(context, name, value string) (string, error) {
	box, err := newBox(k.keys[len(k.keys)-1])
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(box.Seal(nil, nil, []byte(value), label(context, name))), nil
}

// open is the reverse of seal.
func (k *keyring) open(context, name, sealed string) (string, error) {
	b, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil {
		return "", fmt.Errorf("secret %s/%s is damaged", context, name)
	}
	for _, key := range k.keys {
		box, err := newBox(key)
		if err != nil {
			return "", err
		}
		if value, err := box.Open(nil, nil, b, label(context, name)); err == nil {
			return string(value), nil
		}
	}
	return "", fmt.Errorf("secret %s/%s %w", context, name, errSealed)
}

func newBox(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// label binds a sealed value to its name: moved under another it does not open.
func label(context, name string) []byte { return []byte(context + "\x00" + name) }

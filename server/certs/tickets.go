package certs

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	// ticketRotation is how long a key makes tickets, and ticketKeys how many keys
	// are kept to read them: as crypto/tls does it by itself.
	ticketRotation = 24 * time.Hour
	ticketKeys     = 7

	ticketsVersion = 1
	// maxTickets bounds the marshalled form, bytes.
	maxTickets = 4096
)

// Tickets are the keys of TLS session tickets. A process hands them to its
// successor, so that clients resume their sessions there; whoever has them can
// read what was sent in those sessions with TLS 1.2. Make them with [NewTickets].
// The methods may be called from any goroutine.
//
// They are never shown: not by the verbs of fmt, not by slog, not as JSON.
type Tickets struct {
	mu   sync.Mutex
	keys []ticketKey // the newest first, at least one
}

type ticketKey struct {
	Made time.Time `json:"made"`
	Key  []byte    `json:"key"` // 32 bytes
}

// NewTickets makes keys that nobody else has.
func NewTickets() *Tickets { return &Tickets{keys: []ticketKey{newTicketKey(time.Now())}} }

func newTicketKey(now time.Time) ticketKey {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return ticketKey{now.UTC().Round(0), key}
}

// Keys returns the keys for [TLSOptions]: the newest, which makes tickets, and
// those before it, which read them. A key is followed by another after a day, and
// no longer used after a week.
func (t *Tickets) Keys() [][32]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rotate(time.Now())
	keys := make([][32]byte, len(t.keys))
	for i, k := range t.keys {
		copy(keys[i][:], k.Key)
	}
	return keys
}

// rotate brings the keys up to date.
func (t *Tickets) rotate(now time.Time) {
	if now.Sub(t.keys[0].Made) >= ticketRotation {
		t.keys = slices.Insert(t.keys, 0, newTicketKey(now))
	}
	t.keys = slices.DeleteFunc(t.keys, func(k ticketKey) bool { return now.Sub(k.Made) >= ticketKeys*ticketRotation })
	t.keys = t.keys[:min(len(t.keys), ticketKeys)]
}

type marshalledTickets struct {
	Version int         `json:"version"`
	Keys    []ticketKey `json:"keys"`
}

// Marshal returns the keys for Unmarshal of another process, at most 4 KiB of
// JSON. It is a secret.
func (t *Tickets) Marshal() ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	data, err := json.Marshal(marshalledTickets{ticketsVersion, t.keys})
	if err != nil {
		return nil, fmt.Errorf("write ticket keys: %w", err)
	}
	return data, nil
}

// Unmarshal replaces the keys by those that Marshal has written. With an error,
// which holds nothing of them, they stay as they were.
func (t *Tickets) Unmarshal(data []byte) error {
	if len(data) > maxTickets {
		return fmt.Errorf("read ticket keys: %d bytes are more than %d", len(data), maxTickets)
	}
	var m marshalledTickets
	if err := json.Unmarshal(data, &m); err != nil {
		return errors.New("read ticket keys: they are not well-formed") // the cause may quote them
	}
	if m.Version != ticketsVersion {
		return fmt.Errorf("read ticket keys: they are of version %d, this program reads %d", m.Version, ticketsVersion)
	}
	if len(m.Keys) == 0 || len(m.Keys) > ticketKeys {
		return fmt.Errorf("read ticket keys: %d are not 1 to %d", len(m.Keys), ticketKeys)
	}
	for i, k := range m.Keys {
		if len(k.Key) != 32 || i > 0 && k.Made.After(m.Keys[i-1].Made) {
			return errors.New("read ticket keys: one of them cannot be")
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keys = m.Keys
	return nil
}

const ticketsText = "TLS session ticket keys"

// Format is for fmt. It shows nothing.
func (t *Tickets) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, ticketsText) }

// LogValue is for slog. It shows nothing.
func (t *Tickets) LogValue() slog.Value { return slog.StringValue(ticketsText) }

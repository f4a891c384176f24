package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A client's session goes on at a listener of another process that was given the
// keys, and not at one that was not.
func TestTicketsOfThePredecessor(t *testing.T) {
	ca := newAuthority("authority")
	m := material(t, ca.config("one"), false)
	for version, client := range versions() {
		t.Run(version, func(t *testing.T) {
			old := NewTickets()
			data, err := old.Marshal()
			must(t, err)
			successor, stranger := NewTickets(), NewTickets()
			must(t, successor.Unmarshal(data))
			c := client(ca.Pool())
			serveTickets(t, m, old.Keys, (*tls.Config).Clone).want(t, c, "one", false)
			serveTickets(t, m, old.Keys, (*tls.Config).Clone).want(t, c, "one", true)
			serveTickets(t, m, successor.Keys, (*tls.Config).Clone).want(t, c, "one", true)
			serveTickets(t, m, stranger.Keys, (*tls.Config).Clone).want(t, c, "one", false)
		})
	}
}

// A key is used for a day and read for a week.
func TestTicketRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tickets := NewTickets()
		first := tickets.Keys()[0]
		for day := range 10 {
			keys := tickets.Keys()
			if want := min(day+1, ticketKeys); len(keys) != want {
				t.Errorf("day %d: %d keys, want %d", day, len(keys), want)
			}
			if known := slices.Contains(keys, first); known != (day < ticketKeys) {
				t.Errorf("day %d: the first key is known: %v", day, known)
			}
			if day > 0 && keys[0] == first {
				t.Errorf("day %d: the first key still makes tickets", day)
			}
			time.Sleep(ticketRotation)
		}
		time.Sleep(30 * ticketRotation)
		if keys := tickets.Keys(); len(keys) != 1 {
			t.Errorf("after a month: %d keys", len(keys))
		}
	})
}

func TestTicketsUnmarshal(t *testing.T) {
	tickets := NewTickets()
	want := tickets.Keys()
	data, err := tickets.Marshal()
	must(t, err)
	if len(data) > maxTickets/ticketKeys {
		t.Errorf("one key takes %d bytes", len(data))
	}
	secret := base64.StdEncoding.EncodeToString(want[0][:])
	for name, bad := range map[string][]byte{
		"nothing":     nil,
		"no JSON":     []byte(secret),
		"wrong type":  []byte(`{"version":"` + secret + `"}`),
		"newer":       bytes.Replace(data, []byte(`"version":1`), []byte(`"version":2`), 1),
		"no key":      []byte(`{"version":1,"keys":[]}`),
		"a short key": []byte(`{"version":1,"keys":[{"made":"2026-01-01T00:00:00Z","key":"AAAA"}]}`),
		"too long":    append(data, bytes.Repeat([]byte(" "), maxTickets)...),
		"too many":    []byte(`{"version":1,"keys":[` + strings.TrimSuffix(strings.Repeat(`{"key":""},`, 8), ",") + `]}`),
	} {
		t.Run(name, func(t *testing.T) {
			err := tickets.Unmarshal(bad)
			if err == nil || strings.Contains(err.Error(), secret) {
				t.Errorf("Unmarshal returned %v", err)
			}
			if !slices.Equal(tickets.Keys(), want) {
				t.Error("the keys have changed")
			}
		})
	}
}

func TestTicketsAreNotShown(t *testing.T) {
	tickets := NewTickets()
	key := tickets.Keys()[0]
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).LogAttrs(context.Background(), slog.LevelInfo, "x", slog.Any("tickets", tickets))
	shown, err := json.Marshal(map[string]any{"tickets": tickets})
	must(t, err)
	text := log.String() + string(shown)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		text += fmt.Sprintf(verb, tickets)
	}
	for _, form := range []string{
		base64.StdEncoding.EncodeToString(key[:]), fmt.Sprintf("%x", key), fmt.Sprint(key),
	} {
		if strings.Contains(text, form) {
			t.Errorf("a key is shown in %q", text)
		}
	}
	if n := strings.Count(text, ticketsText); n != 8 {
		t.Errorf("shown %d times: %q", n, text)
	}
}

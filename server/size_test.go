package server

import (
	"encoding/json"
	"testing"
)

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "1": 1, "65536": 1 << 16, "10B": 10, "64KiB": 1 << 16, "1MiB": 1 << 20, "2GiB": 2 << 30,
		"10kB": 10_000, "10KB": 10_000, "10MB": 10_000_000, "1GB": 1_000_000_000, "1 MiB": 1 << 20, " 1MiB ": 1 << 20,
		"9223372036854775807": 1<<63 - 1, "8589934591GiB": (1<<33 - 1) << 30, "007": 7,
	} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q is %d, %v; want %d", text, s, err, want)
		}
	}
	for _, text := range []string{
		"", "secret", "-1", "-1MiB", "1.5MiB", "1e3", "0x10", "1_000", "MiB", "B", "1 M iB", "1mib", "1M", "1Ki", "1TiB",
		"9223372036854775808", "8589934592GiB", "99999999999999999999999", "1\x00", "١",
	} {
		s := Size(7)
		err := s.UnmarshalText([]byte(text))
		if err == nil || err.Error() != "want a number of bytes, for example 65536, 64KiB or 1MiB" || s != 7 {
			t.Errorf("%q is %d, %v", text, s, err)
		}
	}
	for s, want := range map[Size]string{
		0: "0", 1: "1", 1000: "1000", 1024: "1KiB", 1536: "1536", 1 << 20: "1MiB", 3 << 30: "3GiB", 1<<30 + 1<<20: "1025MiB", 1<<63 - 1: "9223372036854775807",
	} {
		if got := s.String(); got != want {
			t.Errorf("%d is written %q, want %q", s, got, want)
		}
	}
	// It is text in JSON, so that no number is rounded.
	if b, err := json.Marshal(map[string]Size{"a": 1 << 20}); string(b) != `{"a":"1MiB"}` {
		t.Errorf("in JSON: %s, %v", b, err)
	}
}

func FuzzSize(f *testing.F) {
	for _, s := range []string{"0", "1MiB", "10 kB", "8589934591GiB", "-1", "+5", "1B"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var s, again Size
		if s.UnmarshalText([]byte(text)) != nil {
			return
		}
		if s < 0 {
			t.Errorf("%q is %d", text, s)
		}
		b, err := s.MarshalText()
		if err != nil || again.UnmarshalText(b) != nil || again != s {
			t.Errorf("%q is %d, written %q, which is %d", text, s, b, again)
		}
	})
}

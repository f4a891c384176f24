package server

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes, written as a whole number or with a unit: "64KiB",
// "1MiB", "2GiB", "10kB", "10MB".
type Size int64

// units, longest suffix first.
func units() []struct {
	suffix string
	bytes  int64
} {
	return []struct {
		suffix string
		bytes  int64
	}{
		{"KiB", 1 << 10},
		{"MiB", 1 << 20},
		{"GiB", 1 << 30},
		{"kB", 1e3},
		{"KB", 1e3},
		{"MB", 1e6},
		{"GB", 1e9},
		{"B", 1},
		{"", 1},
	}
}

// UnmarshalText reads a size. The error does not hold the text.
func (s *Size) UnmarshalText(text []byte) error {
	trimmed := strings.TrimSpace(string(text))
	for _, u := range units() {
		number, ok := strings.CutSuffix(trimmed, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.bytes {
			break
		}
		*s = Size(n * u.bytes)
		return nil
	}
	return errors.New("want a number of bytes, for example 65536, 64KiB or 1MiB")
}

// MarshalText writes the size in the largest unit that leaves a whole number.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String is what MarshalText writes.
func (s Size) String() string {
	for _, u := range []struct {
		suffix string
		bytes  Size
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if s != 0 && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

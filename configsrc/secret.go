package configsrc

import "log/slog"

// Secret is a text that shows itself to nobody: every formatted, marshalled or
// logged form of it is masked. Convert to string to use it.
type Secret string

const secretMask = "[secret]"

// String is the mask.
func (s Secret) String() string { return secretMask }

// GoString is the mask.
func (s Secret) GoString() string { return secretMask }

// LogValue is the mask.
func (s Secret) LogValue() slog.Value { return slog.StringValue(secretMask) }

// MarshalText gives the mask, to encoding/json too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(secretMask), nil }

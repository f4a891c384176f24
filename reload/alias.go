package reload

import (
	"maps"
	"strings"

	"github.com/hotsvc/svc/configsrc"
)

// resolveAliases gives every key of one layer the name of its field. Where a
// layer has both names of a setting, the alias stays, and decode reports it.
func (s *schema) resolveAliases(values configsrc.Values) configsrc.Values {
	out, cloned := values, false
	for alias, key := range s.aliases {
		if !hasBelow(values, alias) || hasBelow(values, key) {
			continue
		}
		for k, v := range values {
			if k != alias && !below(k, alias) {
				continue
			}
			if !cloned {
				out, cloned = maps.Clone(out), true
			}
			delete(out, k)
			out[key+strings.TrimPrefix(k, alias)] = v
		}
	}
	return out
}

// aliasOf returns the setting that key is another name of, or "".
func (s *schema) aliasOf(key string) string {
	for alias, target := range s.aliases {
		if key == alias || below(key, alias) {
			return target
		}
	}
	return ""
}

// hasBelow reports whether values set key or anything below it.
func hasBelow(values configsrc.Values, key string) bool {
	for k := range values {
		if k == key || below(k, key) {
			return true
		}
	}
	return false
}

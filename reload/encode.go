package reload

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

// effective is a typed config in canonical form: flat keys, and under each a
// plain value (bool, int64, uint64, float64, string) or a list of such trees.
// Two configs are the same exactly when their effective forms are, whatever
// notation their sources used.
type effective map[string]any

// encode writes config, a struct or pointer to one, in canonical form.
func (s *schema) encode(config any) effective {
	out := effective{}
	encodeNode(s.root, reflect.ValueOf(config), out)
	return out
}

func encodeNode(n *node, v reflect.Value, out effective) {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	switch n.shape {
	case shapeSection:
		for _, f := range n.fields {
			encodeNode(f.node, v.Field(f.index), out)
		}
	case shapeMap, shapeAny:
		encodeOpen(n.key, encodeTree(v), out)
	case shapeLeaf, shapeList:
		out[n.key] = encodeTree(v)
	}
}

// encodeOpen flattens the maps below a key whose names are the user's own.
func encodeOpen(key string, tree any, out effective) {
	section, ok := tree.(map[string]any)
	if !ok {
		if tree != nil {
			out[key] = tree
		}
		return
	}
	for name, child := range section {
		encodeOpen(join(key, name), child, out)
	}
}

// encodeTree turns any value of a config type into plain values, []any and
// map[string]any. A nil list and an empty one are the same.
func encodeTree(v reflect.Value) any {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	if isDuration(v.Type()) {
		return time.Duration(v.Int()).String()
	}
	// A text type is compared by its text: Secret's marshalled form is masked.
	if v.Kind() == reflect.String {
		return v.String()
	}
	if m := textMarshaler(v); m != nil {
		if text, err := m.MarshalText(); err == nil {
			return string(text)
		}
	}
	switch {
	case v.CanInt():
		return v.Int()
	case v.CanUint():
		return v.Uint()
	case v.CanFloat():
		return v.Float()
	}
	switch v.Kind() {
	case reflect.Bool:
		return v.Bool()
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = encodeTree(v.Index(i))
		}
		return list
	case reflect.Map:
		section := make(map[string]any, v.Len())
		for _, k := range v.MapKeys() {
			section[k.String()] = encodeTree(v.MapIndex(k))
		}
		return section
	case reflect.Struct:
		section := map[string]any{}
		for i := range v.NumField() {
			if name := v.Type().Field(i).Tag.Get(tagKey); name != "" && name != "-" {
				section[name] = encodeTree(v.Field(i))
			}
		}
		return section
	default:
		// newSchema has refused all other kinds.
		return fmt.Sprintf("unsupported %s", v.Kind())
	}
}

// textMarshaler finds MarshalText on the value or on a pointer to it.
func textMarshaler(v reflect.Value) encoding.TextMarshaler {
	if m, ok := reflect.TypeAssert[encoding.TextMarshaler](v); ok {
		return m
	}
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	m, _ := reflect.TypeAssert[encoding.TextMarshaler](p)
	return m
}

// diff returns the keys whose values differ, in order.
func (e effective) diff(other effective) []string {
	var keys []string
	for k, v := range e {
		if w, ok := other[k]; !ok || !reflect.DeepEqual(v, w) {
			keys = append(keys, k)
		}
	}
	for k := range other {
		if _, ok := e[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, configsrc.CompareKeys)
	return keys
}

// combine returns next with its restart part replaced by running's. Both are
// pointers to the same config struct type and stay as they are; what they point
// to is shared, since a config is never changed once built.
func (s *schema) combine(running, next any) any {
	out := reflect.New(reflect.TypeOf(next).Elem())
	out.Elem().Set(reflect.ValueOf(next).Elem())
	combineNode(s.root, reflect.ValueOf(running).Elem(), out.Elem())
	return out.Interface()
}

func combineNode(n *node, running, out reflect.Value) {
	for _, f := range n.fields {
		from, to := running.Field(f.index), out.Field(f.index)
		switch {
		case f.node.live:
		case f.node.shape == shapeSection && from.Kind() == reflect.Struct:
			combineNode(f.node, from, to)
		default:
			// An optional section is taken or left whole.
			to.Set(from)
		}
	}
}

// combineValues does to contents what combine does to typed configs.
func (s *schema) combineValues(running, next configsrc.Values) configsrc.Values {
	out := make(configsrc.Values, len(next))
	for k, v := range next {
		if s.isLive(k) {
			out[k] = v
		}
	}
	for k, v := range running {
		if !s.isLive(k) {
			out[k] = v
		}
	}
	// An empty section of one side may have got keys from the other.
	for k, v := range out {
		if v.Raw == configsrc.EmptySection {
			if first, below := firstBelow(out, k); below && first != k {
				delete(out, k)
			}
		}
	}
	return out
}

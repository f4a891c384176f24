package reload

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

// The struct tags a configuration type is described with.
const (
	tagKey    = "config" // the field's segment of the key; "-" leaves the field out
	tagReload = "reload" // "live": the field, and all below it, changes in place
	tagSecret = "secret" // "true": the value is masked wherever it could be seen
	tagAlias  = "alias"  // another absolute key for the field
)

// shape is what a key of the configuration may hold.
type shape int

const (
	shapeSection shape = iota // a struct: keys below it, no value of its own
	shapeLeaf                 // one value
	shapeList                 // a slice: one value, made of elements
	shapeMap                  // a map: any segment below it
	shapeAny                  // an interface: whatever the source has
)

// node describes one key of a configuration type and everything below it.
type node struct {
	key      string // flat key; "" at the root
	shape    shape
	typ      reflect.Type
	live     bool
	secret   bool
	children map[string]*node // of a section
	fields   []sectionField   // of a section, in the order of the struct
	elem     *node            // of a list or map
	index    []int            // the field's place in the config struct, for reflect.Value.FieldByIndex
}

// isOpen reports a map[string]any right in the struct: its content needs no
// conversion.
func (n *node) isOpen() bool {
	return n.shape == shapeMap && n.index != nil && n.typ == reflect.TypeFor[map[string]any]()
}

type sectionField struct {
	index int
	node  *node
}

// schema is the description of a configuration type.
type schema struct {
	root    *node
	aliases map[string]string // alias -> key
}

func isDuration(t reflect.Type) bool { return t == reflect.TypeFor[time.Duration]() }
func isSecret(t reflect.Type) bool   { return t == reflect.TypeFor[configsrc.Secret]() }

// isTextual reports a type that reads itself from text.
func isTextual(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// newSchema describes t, a struct. Every exported field needs a config tag, so
// that no setting appears under a name nobody chose.
func newSchema(t reflect.Type) (*schema, error) {
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("describe config type %s: not a struct", t)
	}
	s := &schema{aliases: map[string]string{}}
	var err error
	s.root, err = s.describe(t, "", false, false, 0)
	if err != nil {
		return nil, fmt.Errorf("describe config type %s: %w", t, err)
	}
	s.root.place([]int{})
	for alias := range s.aliases {
		if m := s.find(alias); m.node != nil && m.problem == "" {
			return nil, fmt.Errorf("describe config type %s: alias %s is a key itself", t, alias)
		}
	}
	return s, nil
}

// maxTypeDepth stops a type that contains itself.
const maxTypeDepth = 32

func (s *schema) describe(t reflect.Type, key string, live, secret bool, depth int) (*node, error) {
	if depth > maxTypeDepth {
		return nil, fmt.Errorf("%s: nested more than %d deep, or in itself", key, maxTypeDepth)
	}
	if t.Kind() == reflect.Pointer {
		// Optional value: nil until a source sets it.
		return s.describe(t.Elem(), key, live, secret, depth+1)
	}
	n := &node{key: key, typ: t, live: live, secret: secret || isSecret(t)}
	if isLeaf(t) {
		if isTextual(t) && t.Kind() != reflect.String && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
			return nil, fmt.Errorf("%s: %s has UnmarshalText and no MarshalText, so a change could not be seen", key, t)
		}
		n.shape = shapeLeaf
		return n, nil
	}
	switch t.Kind() {
	case reflect.Struct:
		return n, s.describeFields(n, depth)
	case reflect.Slice:
		n.shape = shapeList
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			return nil, fmt.Errorf("%s: map keys must be text, not %s", key, t.Key())
		}
		n.shape = shapeMap
	case reflect.Interface:
		n.shape = shapeAny
		return n, nil
	default:
		return nil, fmt.Errorf("%s: a configuration cannot hold a %s", key, t)
	}
	var err error
	n.elem, err = s.describe(t.Elem(), key, live, n.secret, depth+1)
	return n, err
}

func (s *schema) describeFields(n *node, depth int) error {
	n.shape = shapeSection
	n.children = map[string]*node{}
	for i := range n.typ.NumField() {
		f := n.typ.Field(i)
		name := f.Tag.Get(tagKey)
		if !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			return fmt.Errorf("field %s.%s has no %q tag", n.typ, f.Name, tagKey)
		}
		if strings.ContainsAny(name, ".[]") || n.children[name] != nil {
			return fmt.Errorf("field %s.%s: key %q is taken or not a plain name", n.typ, f.Name, name)
		}
		child, err := s.describe(f.Type, join(n.key, name),
			n.live || f.Tag.Get(tagReload) == "live",
			n.secret || f.Tag.Get(tagSecret) == "true", depth+1)
		if err != nil {
			return err
		}
		if f.Type.Kind() == reflect.Pointer && child.shape == shapeSection && !child.live && child.anyLive() {
			return fmt.Errorf("%s: an optional section is live as a whole or not at all", child.key)
		}
		n.children[name] = child
		n.fields = append(n.fields, sectionField{index: i, node: child})
		if alias := f.Tag.Get(tagAlias); alias != "" {
			if other, taken := s.aliases[alias]; taken {
				return fmt.Errorf("alias %s stands for both %s and %s", alias, other, child.key)
			}
			s.aliases[alias] = child.key
		}
	}
	return nil
}

// place notes where a field lies, and with it those of the struct it may be.
func (n *node) place(index []int) {
	n.index = index
	for _, f := range n.fields {
		if n.typ.Field(f.index).Type.Kind() != reflect.Pointer {
			f.node.place(append(slices.Clone(index), f.index))
		}
	}
}

func isLeaf(t reflect.Type) bool {
	if isDuration(t) || isTextual(t) {
		return true
	}
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	default:
		return false
	}
}

func join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}

// match is what find knows about a flat key of some content.
type match struct {
	node    *node  // the deepest node on the key's way; the root for an unknown first segment
	problem string // why the key cannot be used; "" where it can
	unknown bool   // the problem is that no setting has this name
	open    *node  // the open map that the key lies in
}

// find looks a flat key up. The node of a list element is the list's own where
// the element is a plain value.
func (s *schema) find(key string) match {
	n := s.root
	var open *node
	for segment := range strings.SplitSeq(key, ".") {
		name, indexes := splitIndexes(segment)
		switch n.shape {
		case shapeAny:
			return match{node: n, open: open}
		case shapeLeaf:
			return match{node: n, problem: n.key + " is one value and has no keys below it"}
		case shapeList:
			return match{node: n, problem: n.key + " is a list: number its elements as " + n.key + "[0]"}
		case shapeMap:
			if n.isOpen() {
				open = n
			}
			n = n.elem
		case shapeSection:
			child := n.children[name]
			if child == nil {
				return match{node: n, problem: "no setting has this name", unknown: true}
			}
			n = child
		}
		for range indexes {
			switch n.shape {
			case shapeAny:
				return match{node: n, open: open}
			case shapeList:
				n = n.elem
			case shapeSection, shapeLeaf, shapeMap:
				return match{node: n, problem: n.key + " is not a list"}
			}
		}
	}
	return match{node: n, open: open}
}

// splitIndexes cuts "a[0][1]" into "a" and the number of indexes.
func splitIndexes(segment string) (name string, indexes int) {
	name = segment
	for strings.HasSuffix(name, "]") {
		open := strings.LastIndexByte(name, '[')
		if open <= 0 || !isDigits(name[open+1:len(name)-1]) {
			break
		}
		name, indexes = name[:open], indexes+1
	}
	return name, indexes
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// isLive reports whether a change of the key takes effect in place. A key that
// no field knows has no effect at all, so it needs no restart.
func (s *schema) isLive(key string) bool {
	m := s.find(key)
	return m.unknown || m.node.live
}

// suggest names the setting closest to an unknown key, or "".
func (s *schema) suggest(key string) string {
	best, bestDistance := "", 3
	s.root.each(func(n *node) {
		if d := distance(strings.ToLower(key), strings.ToLower(n.key)); d < bestDistance {
			best, bestDistance = n.key, d
		}
	})
	return best
}

// anyLive reports whether something below a node is live.
func (n *node) anyLive() bool {
	live := false
	n.each(func(below *node) { live = live || below.live })
	return live
}

// each visits every node that can hold a value.
func (n *node) each(visit func(*node)) {
	if n.shape != shapeSection {
		visit(n)
	}
	for _, f := range n.fields {
		f.node.each(visit)
	}
}

// distance is the Levenshtein distance of two short texts.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := previous
			if a[i] != b[j] {
				cost = 1 + min(previous, row[j], row[j+1])
			}
			previous, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

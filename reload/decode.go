package reload

import (
	"encoding"
	"errors"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"

	"github.com/hotsvc/svc/configsrc"
)

// decode writes values over target, a pointer to a config struct that holds the
// defaults. It returns every problem at once, and the keys that no field knows.
// target is not to be used when there are problems.
func (s *schema) decode(values configsrc.Values, target any) (problems, unknown []configsrc.Problem) {
	known := configsrc.Values{}
	open := map[*node]configsrc.Values{} // by the map they are in
	for key, value := range values {
		m := s.find(key)
		switch target := s.aliasOf(key); {
		case target != "":
			// resolveAliases has left it because the setting has its own name too.
			problems = append(problems, configsrc.Problem{
				Key: key, Origin: value.Origin, Reason: "is another name of " + target + ", which is set as well: remove one",
			})
		case m.unknown:
			reason := m.problem
			if name := s.suggest(key); name != "" {
				reason += ", did you mean " + name + "?"
			}
			unknown = append(unknown, configsrc.Problem{Key: key, Origin: value.Origin, Reason: reason})
		case m.problem != "":
			problems = append(problems, configsrc.Problem{Key: key, Origin: value.Origin, Reason: m.problem})
		case m.node.shape == shapeSection && value.Raw == configsrc.EmptySection:
			// Nothing is set.
		case m.node.shape == shapeSection:
			problems = append(problems, configsrc.Problem{
				Key: key, Origin: value.Origin, Reason: "is a section, not one value: " + s.example(m.node),
			})
		case m.open != nil:
			if open[m.open] == nil {
				open[m.open] = make(configsrc.Values, len(values))
			}
			open[m.open][key[len(m.open.key)+1:]] = value
		default:
			known[key] = value
		}
	}
	decoder, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result:     target,
		TagName:    tagKey,
		ZeroFields: true, // a list replaces the default list whole
		DecodeHook: convert,
		MatchName:  func(key, field string) bool { return key == field },
	})
	if err == nil {
		err = decoder.Decode(known.Tree())
	}
	if err != nil {
		problems = append(problems, decodeProblems(err, values)...)
	}
	for n, content := range open {
		reflect.ValueOf(target).Elem().FieldByIndex(n.index).Set(reflect.ValueOf(content.Tree()))
	}
	sortProblems(problems)
	sortProblems(unknown)
	return problems, unknown
}

func sortProblems(problems []configsrc.Problem) {
	slices.SortFunc(problems, func(a, b configsrc.Problem) int {
		if c := configsrc.CompareKeys(a.Key, b.Key); c != 0 {
			return c
		}
		return strings.Compare(a.Reason, b.Reason)
	})
}

// example names a key below a section.
func (s *schema) example(section *node) string {
	if len(section.fields) == 0 {
		return "it has no keys"
	}
	return "set " + section.fields[0].node.key
}

// conversionError is why one value does not fit its field, without the value.
type conversionError struct{ want, got string }

func (e *conversionError) Error() string { return "want " + e.want + ", got " + e.got }

// decodeProblems takes mapstructure's error apart. Only our own reasons are
// shown: the library's may hold values.
func decodeProblems(err error, values configsrc.Values) []configsrc.Problem {
	fields := fieldErrors(err)
	if len(fields) == 0 {
		return []configsrc.Problem{{Reason: "does not fit the config type"}}
	}
	problems := make([]configsrc.Problem, len(fields))
	for i, field := range fields {
		key := mapKey.ReplaceAllString(field.Name(), ".$1")
		reason := "does not fit the setting's type"
		var conversion *conversionError
		var unconvertible *mapstructure.UnconvertibleTypeError
		switch {
		case errors.As(field, &conversion):
			reason = conversion.Error()
		case errors.As(field, &unconvertible):
			reason = (&conversionError{describeType(unconvertible.Expected.Type()), describeRaw(unconvertible.Value)}).Error()
		}
		problems[i] = configsrc.Problem{Key: key, Origin: originOf(values, key), Reason: reason}
	}
	return problems
}

// fieldErrors walks a tree of joined and wrapped errors down to those that name
// a field.
func fieldErrors(err error) []*mapstructure.DecodeError {
	switch e := err.(type) { //nolint:errorlint // each node of the tree is looked at by itself
	case *mapstructure.DecodeError:
		if nested := fieldErrors(e.Unwrap()); len(nested) > 0 {
			return nested
		}
		return []*mapstructure.DecodeError{e}
	case interface{ Unwrap() []error }:
		var all []*mapstructure.DecodeError
		for _, joined := range e.Unwrap() {
			all = append(all, fieldErrors(joined)...)
		}
		return all
	case interface{ Unwrap() error }:
		return fieldErrors(e.Unwrap())
	}
	return nil
}

// mapKey finds the way mapstructure writes the key of a map: "labels[team]".
var mapKey = regexp.MustCompile(`\[([^\]]*[^\]0-9][^\]]*)\]`)

// originOf finds where key, or the first key below it, was set.
func originOf(values configsrc.Values, key string) configsrc.Origin {
	if v, ok := values[key]; ok {
		return v.Origin
	}
	first := ""
	for k := range values {
		if below(k, key) && (first == "" || configsrc.CompareKeys(k, first) < 0) {
			first = k
		}
	}
	return values[first].Origin
}

// below reports whether key lies under parent, as a section's key or a list's element.
func below(key, parent string) bool {
	rest, ok := strings.CutPrefix(key, parent)
	return ok && rest != "" && (rest[0] == '.' || rest[0] == '[')
}

// convert turns what sources have (bool, int64, uint64, float64, text, list,
// section) into what a field wants, or says why not. A field that wants text
// gets no number: 1.10 and 0755 are not what was written any more once they
// were numbers. Sources without types (Consul, properties) have text only, so
// text is read as whatever the field wants.
func convert(from, to reflect.Value) (any, error) {
	t := to.Type()
	if !from.IsValid() {
		return nil, nil
	}
	raw := from.Interface()
	switch {
	case t.Kind() == reflect.Pointer, t.Kind() == reflect.Interface:
		return raw, nil
	case isDuration(t):
		return convertDuration(raw)
	case isSecret(t):
		return convertText(raw, t)
	case isTextual(t):
		return convertTextual(raw, t)
	}
	switch t.Kind() {
	case reflect.Bool:
		return convertBool(raw)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return convertInteger(raw, t)
	case reflect.Float32, reflect.Float64:
		return convertFloat(raw, t)
	case reflect.String:
		return convertText(raw, t)
	case reflect.Slice:
		return convertList(raw, t)
	default:
		return raw, nil
	}
}

const wantDuration = "a duration such as 1500ms, 3s or 2m, or a whole number of milliseconds"

func convertDuration(raw any) (any, error) {
	switch x := raw.(type) {
	case int64:
		if x > math.MaxInt64/int64(time.Millisecond) || x < math.MinInt64/int64(time.Millisecond) {
			return nil, &conversionError{wantDuration, "a number out of range"}
		}
		return time.Duration(x) * time.Millisecond, nil
	case string:
		text := strings.TrimSpace(x)
		if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
			return convertDuration(ms)
		}
		if d, err := time.ParseDuration(text); err == nil {
			return d, nil
		}
		return nil, &conversionError{wantDuration, "other text (units are ns, us, ms, s, m, h)"}
	}
	return nil, &conversionError{wantDuration, describeRaw(raw)}
}

func convertBool(raw any) (any, error) {
	switch x := raw.(type) {
	case bool:
		return x, nil
	case string:
		switch strings.ToLower(strings.TrimSpace(x)) {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
		return nil, &conversionError{"true or false", "other text"}
	}
	return nil, &conversionError{"true or false", describeRaw(raw)}
}

func convertInteger(raw any, t reflect.Type) (any, error) {
	want := describeType(t)
	if x, ok := raw.(string); ok {
		text := strings.TrimSpace(x)
		if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			raw = i
		} else if u, err := strconv.ParseUint(text, 10, 64); err == nil {
			raw = u
		} else {
			return nil, &conversionError{want, "other text"}
		}
	}
	v := reflect.New(t).Elem()
	switch x := raw.(type) {
	case int64:
		switch {
		case v.CanInt() && !v.OverflowInt(x):
			v.SetInt(x)
			return v.Interface(), nil
		case v.CanUint() && x >= 0 && !v.OverflowUint(uint64(x)):
			v.SetUint(uint64(x))
			return v.Interface(), nil
		}
		return nil, &conversionError{want, "a number out of range"}
	case uint64:
		if v.CanUint() && !v.OverflowUint(x) {
			v.SetUint(x)
			return v.Interface(), nil
		}
		return nil, &conversionError{want, "a number out of range"}
	}
	return nil, &conversionError{want, describeRaw(raw)}
}

func convertFloat(raw any, t reflect.Type) (any, error) {
	var f float64
	switch x := raw.(type) {
	case int64:
		f = float64(x)
	case uint64:
		f = float64(x)
	case float64:
		f = x
	case string:
		var err error
		f, err = strconv.ParseFloat(strings.TrimSpace(x), 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, &conversionError{"a number", "other text"}
		}
	default:
		return nil, &conversionError{"a number", describeRaw(raw)}
	}
	v := reflect.New(t).Elem()
	if v.OverflowFloat(f) {
		return nil, &conversionError{"a number", "a number out of range"}
	}
	v.SetFloat(f)
	return v.Interface(), nil
}

func convertText(raw any, t reflect.Type) (any, error) {
	x, ok := raw.(string)
	if !ok {
		return nil, &conversionError{"text", describeRaw(raw) + " (put it in quotes)"}
	}
	return reflect.ValueOf(x).Convert(t).Interface(), nil
}

// convertTextual reads text, or a number's text, into a type of its own.
func convertTextual(raw any, t reflect.Type) (any, error) {
	var text string
	switch x := raw.(type) {
	case string:
		text = x
	case int64:
		text = strconv.FormatInt(x, 10)
	case uint64:
		text = strconv.FormatUint(x, 10)
	default:
		return nil, &conversionError{describeType(t), describeRaw(raw)}
	}
	v := reflect.New(t)
	if err := v.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
		// The type's own error may quote the text; only its description is shown.
		return nil, &conversionError{describeType(t), "other text"}
	}
	return v.Elem().Interface(), nil
}

// convertList lets sources without types write a list as "a,b".
func convertList(raw any, t reflect.Type) (any, error) {
	switch x := raw.(type) {
	case []any:
		return x, nil
	case string:
		list := []any{}
		if strings.TrimSpace(x) == "" {
			return list, nil
		}
		for item := range strings.SplitSeq(x, ",") {
			list = append(list, strings.TrimSpace(item))
		}
		return list, nil
	}
	return nil, &conversionError{describeType(t), describeRaw(raw)}
}

// A describer is a type that can say, in a few words, what text it accepts.
type describer interface{ Describe() string }

func describeType(t reflect.Type) string {
	if d, ok := reflect.TypeAssert[describer](reflect.New(t)); ok {
		return d.Describe()
	}
	if isDuration(t) {
		return wantDuration
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number, not negative"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.String:
		return "text"
	case reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "a section"
	default:
		return t.String()
	}
}

func describeRaw(raw any) string {
	switch raw.(type) {
	case nil:
		return "nothing"
	case bool:
		return "true or false"
	case int64, uint64, float64:
		return "a number"
	case string:
		return "text"
	case []any:
		return "a list"
	case map[string]any:
		return "a section"
	default:
		return "something else"
	}
}

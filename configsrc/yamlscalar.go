package configsrc

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// yamlScalar is what a scalar stands for.
type yamlScalar struct {
	raw any
	// reason says why it is no value; "" if it is one.
	reason string
}

const (
	outOfRangeYAML = outOfRange + "; if it is text, put it into quotes"
	wrongTag       = "the value is not of the type that its tag "
)

func (y *yamlTree) scalar(node *yaml.Node, line int, inList bool) {
	switch s := y.resolve(node); {
	case s.reason != "":
		y.invalid(line, "%s", s.reason)
	case s.raw != nil || inList:
		y.put(s.raw, line)
	}
}

// resolve reads a scalar, once however many aliases lead to it.
func (y *yamlTree) resolve(node *yaml.Node) yamlScalar {
	if y.aliases == 0 {
		return resolveYAML(node, y.limits)
	}
	s, ok := y.resolved[node]
	if !ok {
		s = resolveYAML(node, y.limits)
		y.resolved[node] = s
	}
	return s
}

func resolveYAML(node *yaml.Node, limits Limits) yamlScalar {
	const written = yaml.TaggedStyle | yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
	text := node.Value
	if len(text) > limits.ValueBytes {
		return yamlScalar{reason: valueTooLong(limits)}
	}
	tag := node.ShortTag()
	switch tag {
	case "!!null":
		switch text {
		case "", "~", "null", "Null", "NULL":
			return yamlScalar{}
		}
	case "!!bool":
		switch text {
		case "true", "True", "TRUE":
			return yamlScalar{raw: true}
		case "false", "False", "FALSE":
			return yamlScalar{raw: false}
		}
	case "!!int":
		if n, err := yamlInteger(text); err == nil {
			return yamlScalar{raw: n}
		}
	case "!!float":
		return yamlFloat(text, node.Style&yaml.TaggedStyle != 0)
	default:
		if node.Style&written == 0 && numberTooLarge(text) {
			return yamlScalar{reason: outOfRangeYAML}
		}
		return yamlScalar{raw: text}
	}
	return yamlScalar{reason: wrongTag + tag + " names"}
}

func yamlFloat(text string, tagged bool) yamlScalar {
	text = strings.ReplaceAll(text, "_", "")
	switch strings.ToLower(strings.TrimLeft(text, "+-")) {
	case ".inf", ".nan":
		return yamlScalar{reason: notFinite}
	}
	f, err := strconv.ParseFloat(text, 64)
	if n, intErr := yamlInteger(text); intErr == nil { // a tag makes it a float
		switch n := n.(type) {
		case int64:
			f, err = float64(n), nil
		case uint64:
			f, err = float64(n), nil
		}
	} else if !tagged && math.Abs(f) >= math.MaxInt64 && !strings.ContainsAny(text, ".eE") {
		err = strconv.ErrRange // the parser makes a float of an integer that is too large
	}
	switch {
	case errors.Is(err, strconv.ErrRange):
		return yamlScalar{reason: outOfRangeYAML}
	case err != nil || math.IsNaN(f) || math.IsInf(f, 0):
		return yamlScalar{reason: wrongTag + "!!float names"}
	}
	return yamlScalar{raw: f}
}

// yamlInteger reads an integer as the parser does: with underscores, and by
// its prefix binary, octal (0o, and 0 alone as in YAML 1.1) or hexadecimal.
func yamlInteger(text string) (any, error) {
	plain := strings.ReplaceAll(text, "_", "")
	if i, err := strconv.ParseInt(plain, 0, 64); err == nil {
		return i, nil
	}
	u, err := strconv.ParseUint(plain, 0, 64)
	return u, err
}

// numberTooLarge tells a number from a text where the parser does not: it takes
// a number that no Go type holds for text.
func numberTooLarge(text string) bool {
	if text == "" || strings.IndexByte("+-.0123456789", text[0]) < 0 {
		return false
	}
	if text[0] != '.' { // else the parser leaves them in
		text = strings.ReplaceAll(text, "_", "")
	}
	if !numeric(text) {
		return false
	}
	_, intErr := strconv.ParseInt(text, 0, 64)
	_, floatErr := strconv.ParseFloat(text, 64)
	return errors.Is(intErr, strconv.ErrRange) || errors.Is(floatErr, strconv.ErrRange)
}

// numeric reports whether text as a whole has the form of a number: strconv
// finds one out of range before it sees that letters follow.
func numeric(text string) bool {
	if text != "" && (text[0] == '+' || text[0] == '-') {
		text = text[1:]
	}
	if len(text) > 2 && text[0] == '0' {
		switch text[1] {
		case 'x', 'X':
			return strings.Trim(text[2:], "0123456789abcdefABCDEF") == ""
		case 'o', 'O':
			return strings.Trim(text[2:], "01234567") == ""
		case 'b', 'B':
			return strings.Trim(text[2:], "01") == ""
		}
	}
	const digits = "0123456789"
	fraction := strings.TrimLeft(text, digits)
	exponent := fraction
	if strings.HasPrefix(fraction, ".") {
		exponent = strings.TrimLeft(fraction[1:], digits)
	}
	if mantissa := text[:len(text)-len(exponent)]; mantissa == "" || mantissa == "." {
		return false
	}
	if exponent == "" {
		return true
	}
	if exponent[0] != 'e' && exponent[0] != 'E' {
		return false
	}
	power := exponent[1:]
	if power != "" && (power[0] == '+' || power[0] == '-') {
		power = power[1:]
	}
	return power != "" && strings.Trim(power, digits) == ""
}

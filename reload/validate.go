package reload

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/go-playground/validator/v10"

	"github.com/hotsvc/svc/configsrc"
)

// A selfValidator is a config struct, at any depth, that checks what tags
// cannot. An *configsrc.InvalidError names several problems, with keys relative
// to the struct; any other error is one problem of the struct as a whole.
type selfValidator interface{ Validate() error }

func newValidate() *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	v.RegisterTagNameFunc(func(f reflect.StructField) string { return f.Tag.Get(tagKey) })
	// The validator looks at a Secret as at the text that it is.
	v.RegisterCustomTypeFunc(func(field reflect.Value) any { return field.String() }, configsrc.Secret(""))
	return v
}

// validate checks the tags and every Validate method of config, a pointer to
// the config struct. It returns every problem at once.
func (s *schema) validate(v *validator.Validate, config any, values configsrc.Values) []configsrc.Problem {
	var problems []configsrc.Problem
	var fieldErrs validator.ValidationErrors
	switch err := v.Struct(config); {
	case errors.As(err, &fieldErrs):
		root := reflect.TypeOf(config).Elem().Name() + "."
		for _, e := range fieldErrs {
			key := mapKey.ReplaceAllString(strings.TrimPrefix(e.Namespace(), root), ".$1")
			problems = append(problems, configsrc.Problem{
				Key: key, Origin: originOf(values, key), Reason: tagReason(e),
			})
		}
	case err != nil:
		problems = append(problems, configsrc.Problem{Reason: "cannot be validated: " + err.Error()})
	}
	problems = append(problems, selfProblems(s.root, reflect.ValueOf(config), values)...)
	sortProblems(problems)
	return problems
}

func selfProblems(n *node, v reflect.Value, values configsrc.Values) []configsrc.Problem {
	if n.shape != shapeSection {
		return nil
	}
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	var problems []configsrc.Problem
	for _, f := range n.fields {
		problems = append(problems, selfProblems(f.node, v.Field(f.index), values)...)
	}
	sv, ok := reflect.TypeAssert[selfValidator](v.Addr())
	if !ok {
		return problems
	}
	err := sv.Validate()
	var invalid *configsrc.InvalidError
	switch {
	case errors.As(err, &invalid):
		for _, p := range invalid.Problems {
			if p.Key == "" {
				p.Key = n.key
			} else {
				p.Key = join(n.key, p.Key)
			}
			if p.Origin == (configsrc.Origin{}) {
				p.Origin = originOf(values, p.Key)
			}
			problems = append(problems, p)
		}
	case err != nil:
		problems = append(problems, configsrc.Problem{Key: n.key, Origin: originOf(values, n.key), Reason: err.Error()})
	}
	return problems
}

// tagReason says in words what a validate tag asks for. It holds the tag's
// parameter, never the value.
func tagReason(e validator.FieldError) string {
	amount := e.Param()
	if k := e.Kind(); k == reflect.Slice || k == reflect.Map {
		amount += " elements"
	} else if k == reflect.String {
		amount += " characters"
	}
	switch e.Tag() {
	case "required":
		return "is required"
	case "min", "gte":
		if e.Param() == "0" {
			return "must not be negative"
		}
		return "must be at least " + amount
	case "max", "lte":
		return "must be at most " + amount
	case "gt":
		return "must be more than " + amount
	case "lt":
		return "must be less than " + amount
	case "oneof":
		return "must be one of " + strings.Join(strings.Fields(e.Param()), ", ")
	case "unique":
		return "must not hold the same element twice"
	case "gtefield", "gtecsfield":
		return "must not be less than " + e.Param()
	case "ltefield", "ltecsfield":
		return "must not be more than " + e.Param()
	}
	if e.Param() == "" {
		return fmt.Sprintf("must be %s", e.Tag())
	}
	return fmt.Sprintf("must satisfy %s=%s", e.Tag(), e.Param())
}

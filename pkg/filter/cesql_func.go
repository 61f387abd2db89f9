package filter

import (
	"math"
	"strings"
	"unicode/utf8"
)

// sqlFunction is a function of CESQL 1.0, 3.6, or Knative's one. Positions and lengths count
// characters.
type sqlFunction struct {
	id     functionID
	name   string
	params []valueKind
	// rest is the type of further arguments; kindFault where there are none.
	rest   valueKind
	result valueKind
}

type functionID uint8

const (
	fnInt functionID = iota
	fnBool
	fnString
	fnIsInt
	fnIsBool
	fnAbs
	fnLength
	fnConcat
	fnConcatWS
	fnLower
	fnUpper
	fnTrim
	fnLeft
	fnRight
	fnSubstring
	fnVerify
)

var (
	anyParam    = []valueKind{kindAny}
	stringParam = []valueKind{kindString}
	countParams = []valueKind{kindString, kindInteger}

	// The correlation id, name and namespace of the RequestReply, the Secret,
	// the index of the pod that asked, and how many there are.
	verifyParams = []valueKind{kindString, kindString, kindString, kindString, kindInteger, kindInteger}
)

// sqlFunctions never changes. (A switch, not a table of function pointers,
// runs them: calls through pointers would move every evaluation to the heap.)
var sqlFunctions = [...]sqlFunction{
	{id: fnInt, name: "INT", params: anyParam, result: kindInteger},
	{id: fnBool, name: "BOOL", params: anyParam, result: kindBoolean},
	{id: fnString, name: "STRING", params: anyParam, result: kindString},
	{id: fnIsInt, name: "IS_INT", params: anyParam, result: kindBoolean},
	{id: fnIsBool, name: "IS_BOOL", params: anyParam, result: kindBoolean},
	{id: fnAbs, name: "ABS", params: []valueKind{kindInteger}, result: kindInteger},
	{id: fnLength, name: "LENGTH", params: stringParam, result: kindInteger},
	{id: fnConcat, name: "CONCAT", rest: kindString, result: kindString},
	{id: fnConcatWS, name: "CONCAT_WS", params: stringParam, rest: kindString, result: kindString},
	{id: fnLower, name: "LOWER", params: stringParam, result: kindString},
	{id: fnUpper, name: "UPPER", params: stringParam, result: kindString},
	{id: fnTrim, name: "TRIM", params: stringParam, result: kindString},
	{id: fnLeft, name: "LEFT", params: countParams, result: kindString},
	{id: fnRight, name: "RIGHT", params: countParams, result: kindString},
	{id: fnSubstring, name: "SUBSTRING", params: countParams, result: kindString},
	{id: fnSubstring, name: "SUBSTRING", params: []valueKind{kindString, kindInteger, kindInteger}, result: kindString},
	{id: fnVerify, name: verifyName, params: verifyParams, result: kindBoolean},
}

// findFunction returns the function of that upper case name which takes n
// arguments, nil if there is none.
func findFunction(name string, n int) *sqlFunction {
	for i := range sqlFunctions {
		f := &sqlFunctions[i]
		if f.name == name && (n == len(f.params) || n > len(f.params) && f.rest != kindFault) {
			return f
		}
	}
	return nil
}

// call evaluates the arguments from left to right, casts them, and runs the
// function.
func (ev *evaluation) call(n *sqlNode) value {
	switch {
	case n.fn.rest != kindFault:
		return ev.concat(n)
	case n.fn.id == fnVerify:
		return ev.verify(n)
	}
	var args [3]value
	for i, to := range n.fn.params {
		v := ev.eval(&n.args[i]).cast(to)
		if v.kind == kindFault {
			return v
		}
		args[i] = v
	}
	x := args[0]
	if !ev.spend(len(x.text)) {
		return faultValue(faultCost, "")
	}
	switch n.fn.id {
	case fnInt:
		return x.cast(kindInteger)
	case fnBool:
		return x.cast(kindBoolean)
	case fnString:
		return x.cast(kindString)
	case fnIsInt:
		return booleanValue(x.cast(kindInteger).kind != kindFault)
	case fnIsBool:
		return booleanValue(x.cast(kindBoolean).kind != kindFault)
	case fnAbs:
		if x.num == math.MinInt32 {
			return faultValue(faultOverflow, n.fn.name)
		}
		return integerValue(max(x.num, -x.num))
	case fnLength:
		return integerValue(int32(utf8.RuneCountInString(x.text)))
	case fnLower:
		return stringValue(strings.ToLower(x.text))
	case fnUpper:
		return stringValue(strings.ToUpper(x.text))
	case fnTrim:
		return stringValue(strings.TrimSpace(x.text))
	default:
		return slice(n.fn, x.text, args[1].num, args[2].num)
	}
}

// slice is LEFT, RIGHT and SUBSTRING.
func slice(fn *sqlFunction, s string, y, length int32) value {
	n, count := int64(utf8.RuneCountInString(s)), int64(y)
	from, to := int64(0), n
	switch fn.id {
	case fnLeft:
		to = min(n, count)
	case fnRight:
		from = max(0, n-count)
	default:
		switch {
		case count == 0:
			return stringValue("")
		case count > n || count < -n:
			return faultValue(faultArgument, fn.name)
		case count > 0:
			from = count - 1
		default:
			from = n + count
		}
		if len(fn.params) == 3 {
			to = min(n, from+int64(length))
			count = int64(length) // and not negative either
		} else {
			count = 0
		}
	}
	if count < 0 {
		return faultValue(faultArgument, fn.name)
	}
	return stringValue(s[offset(s, from):offset(s, to)])
}

// offset is where character n begins in s.
func offset(s string, n int64) int {
	for i := range s {
		if n == 0 {
			return i
		}
		n--
	}
	return len(s)
}

// concat is CONCAT and CONCAT_WS, whose first argument is the separator.
func (ev *evaluation) concat(n *sqlNode) value {
	var text strings.Builder
	separator := ""
	for i := range n.args {
		v := ev.eval(&n.args[i]).cast(kindString)
		if v.kind == kindFault {
			return v
		}
		if n.fn.id == fnConcatWS && i == 0 {
			separator = v.text
			continue
		}
		if n.fn.id == fnConcatWS && i == 1 || n.fn.id == fnConcat {
			if !ev.spend(len(v.text)) {
				return faultValue(faultCost, "")
			}
			text.WriteString(v.text)
			continue
		}
		if !ev.spend(len(v.text) + len(separator)) {
			return faultValue(faultCost, "")
		}
		text.WriteString(separator)
		text.WriteString(v.text)
	}
	return stringValue(text.String())
}

package filter

import "github.com/penstock-events/penstock/pkg/event"

// evaluationBudget bounds what LIKE and the string functions may cost while
// one filter looks at one event, counted in characters looked at or built.
// Event and filter come from different people, and neither may make the broker
// work for long: this is in the order of 50 microseconds, and far above what
// filters on attributes of sensible length need. A search for plain text counts
// as a sixteenth of the text searched.
const evaluationBudget = 16 << 10

// evaluation is one filter looking at one event.
type evaluation struct {
	event  event.Event
	budget int // negative once it is used up
}

// spend takes n from the budget and reports whether there was as much.
func (ev *evaluation) spend(n int) bool {
	ev.budget -= n
	return ev.budget >= 0
}

// match reports whether the expression is true of the event. A fault is false.
func (x *sqlExpr) match(ev *evaluation) bool {
	v := ev.evaluate(&x.root)
	return v.kind == kindBoolean && v.isTrue()
}

// evaluate answers a Boolean or a fault. The result is cast to Boolean
// (CloudEvents Subscriptions API, 3.2.4.1.7), so that a sender may use binary
// mode, where every extension is a String.
func (ev *evaluation) evaluate(n *sqlNode) value {
	return ev.eval(n).cast(kindBoolean)
}

func (ev *evaluation) eval(n *sqlNode) value {
	switch n.op {
	case sqlLiteral:
		return n.literal
	case sqlAttribute:
		v, ok := ev.lookup(n)
		if !ok {
			return faultValue(faultMissing, n.name)
		}
		return attributeValue(v)
	case sqlExists:
		_, ok := ev.lookup(n)
		return booleanValue(ok || isRequired(n.name))
	case sqlAnd, sqlOr, sqlXor:
		return ev.logic(n)
	case sqlNot:
		v := ev.eval(&n.args[0]).cast(kindBoolean)
		if v.kind == kindFault {
			return v
		}
		return booleanValue(!v.isTrue())
	case sqlEqual, sqlNotEqual:
		return ev.equality(n)
	case sqlNegate:
		v := ev.eval(&n.args[0]).cast(kindInteger)
		if v.kind == kindFault {
			return v
		}
		return integerValue(-v.num)
	case sqlLike:
		return ev.likeness(n)
	case sqlIn:
		return ev.membership(n)
	case sqlCall:
		return ev.call(n)
	default:
		return ev.arithmetic(n)
	}
}

// lookup finds an attribute. An empty context attribute is one that is not
// there: CloudEvents (1.0, 3.1) lets none be empty. An extension may be.
func (ev *evaluation) lookup(n *sqlNode) (event.Value, bool) {
	v, ok := ev.event.Attribute(n.name)
	if !ok && n.name == event.AttrDataSchema {
		v, ok = ev.event.Attribute(event.AttrSchemaURL)
	}
	return v, ok && (v.Text != "" || !n.core)
}

// logic does not look at the right side where the left decides (CESQL 1.0, 3.4.4).
func (ev *evaluation) logic(n *sqlNode) value {
	left := ev.eval(&n.args[0]).cast(kindBoolean)
	if left.kind == kindFault ||
		n.op == sqlAnd && !left.isTrue() ||
		n.op == sqlOr && left.isTrue() {
		return left
	}
	right := ev.eval(&n.args[1]).cast(kindBoolean)
	if right.kind == kindFault || n.op != sqlXor {
		return right
	}
	return booleanValue(left.isTrue() != right.isTrue())
}

// equality casts the left side to the type of the right (CESQL 1.0, 3.5).
func (ev *evaluation) equality(n *sqlNode) value {
	left := ev.eval(&n.args[0])
	if left.kind == kindFault {
		return left
	}
	right := ev.eval(&n.args[1])
	if right.kind == kindFault {
		return right
	}
	left = left.cast(right.kind)
	if left.kind == kindFault {
		return left
	}
	return booleanValue(left.equal(right) == (n.op == sqlEqual))
}

func (ev *evaluation) likeness(n *sqlNode) value {
	v := ev.eval(&n.args[0]).cast(kindString)
	if v.kind == kindFault {
		return v
	}
	matched := n.like.match(v.text, &ev.budget)
	if ev.budget < 0 {
		return faultValue(faultCost, "")
	}
	return booleanValue(matched)
}

// membership casts each element to the type of the left side, and evaluates
// no more of them than it needs.
func (ev *evaluation) membership(n *sqlNode) value {
	left := ev.eval(&n.args[0])
	if left.kind == kindFault {
		return left
	}
	for i := range n.args[1:] {
		element := ev.eval(&n.args[1+i]).cast(left.kind)
		if element.kind == kindFault {
			return element
		}
		if left.equal(element) {
			return booleanValue(true)
		}
	}
	return booleanValue(false)
}

// arithmetic covers + - * / % and < <= > >=, which know Integers only. Results
// wrap around at 32 bits, as they do in the CloudEvents SDK.
func (ev *evaluation) arithmetic(n *sqlNode) value {
	left := ev.eval(&n.args[0])
	if left.kind == kindFault {
		return left
	}
	right := ev.eval(&n.args[1])
	if right.kind == kindFault {
		return right
	}
	if left = left.cast(kindInteger); left.kind == kindFault {
		return left
	}
	if right = right.cast(kindInteger); right.kind == kindFault {
		return right
	}
	x, y := left.num, right.num
	switch n.op {
	case sqlLess:
		return booleanValue(x < y)
	case sqlLessOrEqual:
		return booleanValue(x <= y)
	case sqlGreater:
		return booleanValue(x > y)
	case sqlGreaterOrEqual:
		return booleanValue(x >= y)
	case sqlAdd:
		return integerValue(x + y)
	case sqlSubtract:
		return integerValue(x - y)
	case sqlMultiply:
		return integerValue(x * y)
	}
	switch {
	case y == 0:
		return faultValue(faultDivideByZero, "")
	case n.op == sqlDivide:
		return integerValue(x / y)
	default:
		return integerValue(x % y)
	}
}

// kind is the type an expression has whatever the event, kindAny where that
// depends on the event.
func (n *sqlNode) kind() valueKind {
	switch n.op {
	case sqlLiteral:
		return n.literal.kind
	case sqlAttribute:
		if n.core {
			return kindString
		}
		return kindAny
	case sqlAdd, sqlSubtract, sqlMultiply, sqlDivide, sqlModulo, sqlNegate:
		return kindInteger
	case sqlCall:
		return n.fn.result
	default:
		return kindBoolean
	}
}

// isCore reports whether name is a context attribute; all others are extensions.
func isCore(name string) bool {
	switch name {
	case event.AttrSubject, event.AttrTime, event.AttrDataContentType, event.AttrDataSchema:
		return true
	}
	return isRequired(name)
}

// isRequired reports whether every event has the attribute.
func isRequired(name string) bool {
	switch name {
	case event.AttrID, event.AttrSource, event.AttrSpecVersion, event.AttrType:
		return true
	}
	return false
}

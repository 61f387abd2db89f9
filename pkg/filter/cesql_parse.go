package filter

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/antlr/antlr4/runtime/Go/antlr"
	"github.com/cloudevents/sdk-go/sql/v2/gen"
	"github.com/cloudevents/sdk-go/sql/v2/parser"
)

// sqlExpr is a CESQL expression ready to evaluate.
type sqlExpr struct {
	root  sqlNode
	nodes int
}

type sqlOp uint8

const (
	sqlLiteral sqlOp = iota
	sqlAttribute
	sqlExists
	sqlAnd
	sqlOr
	sqlXor
	sqlNot
	sqlEqual
	sqlNotEqual
	sqlLess
	sqlLessOrEqual
	sqlGreater
	sqlGreaterOrEqual
	sqlAdd
	sqlSubtract
	sqlMultiply
	sqlDivide
	sqlModulo
	sqlNegate
	sqlLike
	sqlIn
	sqlCall
)

// sqlNode is one operator, operand or call. args[0] of sqlIn is the value
// looked for, the others are the set.
type sqlNode struct {
	op      sqlOp
	core    bool   // sqlAttribute, sqlExists: a context attribute, not an extension
	name    string // sqlAttribute, sqlExists
	literal value  // sqlLiteral
	like    *likePattern
	fn      *sqlFunction
	keys    Keys // fnVerify
	args    []sqlNode
	source  string // the text it was written as, for people
}

// compileSQL parses an expression with the CloudEvents SDK's grammar, the one
// Knative's webhook uses, and keeps its own tree of it. Evaluating that tree,
// rather than the SDK's, needs no SDK event and no allocation.
//
// What the SDK reports only when an event comes is refused here: unknown
// functions and expressions that are no boolean. So is text its lexer skips
// with a note on standard error.
func compileSQL(text string, keys Keys) (*sqlExpr, error) {
	expr, err := buildSQL(text, keys)
	if err != nil {
		return nil, err
	}
	if kind := expr.root.kind(); kind != kindBoolean && kind != kindAny {
		return nil, fmt.Errorf("expression is of type %s, want a Boolean", kind)
	}
	return expr, nil
}

// buildSQL takes an expression of any type.
func buildSQL(text string, keys Keys) (expr *sqlExpr, err error) {
	// The generated parser has been seen to panic on malformed input; Knative's
	// webhook guards itself in the same way.
	defer func() {
		if r := recover(); r != nil {
			expr, err = nil, fmt.Errorf("expression cannot be parsed: %v", r)
		}
	}()
	if err := checkText(text); err != nil {
		return nil, err
	}
	tree, err := parseSQL(text)
	if err != nil {
		return nil, err
	}
	b := sqlBuilder{text: []rune(text), keys: keys}
	root, err := b.build(tree.Expression())
	if err != nil {
		return nil, err
	}
	return &sqlExpr{root: root, nodes: b.nodes}, nil
}

// checkText keeps input away from the generated code that would cost it much
// time: brackets nested deep, and strings that do not end, for whose end its
// lexer looks again from every quote.
func checkText(text string) error {
	depth, quote, began := 0, byte(0), 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote != 0 && c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote, began = c, i
		case c == '\\':
			return syntaxError(text, i, "unexpected backslash")
		case c == '(':
			if depth++; depth > MaxDepth {
				return fmt.Errorf("expression is nested too deep: more than %d brackets", MaxDepth)
			}
		case c == ')':
			depth--
		}
	}
	if quote != 0 {
		return syntaxError(text, began, "string does not end")
	}
	return nil
}

func syntaxError(text string, at int, what string) error {
	return fmt.Errorf("syntax error at character %d: %s", utf8.RuneCountInString(text[:at])+1, what)
}

// syntaxErrors collects what lexer and parser object to; the first counts.
type syntaxErrors struct {
	antlr.DefaultErrorListener
	first error
}

func (s *syntaxErrors) SyntaxError(_ antlr.Recognizer, _ any, line, column int, msg string, _ antlr.RecognitionException) {
	if s.first != nil {
		return
	}
	at := fmt.Sprintf("character %d", column+1)
	if line > 1 {
		at = fmt.Sprintf("line %d, %s", line, at)
	}
	msg, _, _ = strings.Cut(msg, " expecting {") // a list of nearly all tokens
	msg = strings.NewReplacer("'<EOF>'", "end of expression", "<EOF>", "end of expression").Replace(msg)
	s.first = fmt.Errorf("syntax error at %s: %s", at, clip(strings.ReplaceAll(msg, "\n", " ")))
}

func parseSQL(text string) (*gen.CesqlContext, error) {
	var errs syntaxErrors
	// Keywords are recognised in any case; the tree keeps the text as written.
	lexer := gen.NewCESQLParserLexer(parser.NewCaseChangingStream(antlr.NewInputStream(text), true))
	lexer.RemoveErrorListeners()
	lexer.AddErrorListener(&errs)
	p := gen.NewCESQLParserParser(antlr.NewCommonTokenStream(lexer, antlr.TokenDefaultChannel))
	p.RemoveErrorListeners()
	p.AddErrorListener(&errs)
	tree, ok := p.Cesql().(*gen.CesqlContext)
	if errs.first != nil {
		return nil, errs.first
	}
	if !ok || tree.Expression() == nil {
		return nil, errors.New("expression is empty")
	}
	return tree, nil
}

// sqlBuilder turns the parser's tree into sqlNodes.
type sqlBuilder struct {
	text  []rune // the parser counts in runes
	keys  Keys
	nodes int
}

func (b *sqlBuilder) build(tree gen.IExpressionContext) (sqlNode, error) {
	if group, ok := tree.(*gen.SubExpressionContext); ok {
		return b.build(group.Expression())
	}
	if b.nodes++; b.nodes > MaxNodes {
		return sqlNode{}, fmt.Errorf("expression is too large: more than %d operators and operands", MaxNodes)
	}
	n := sqlNode{source: b.source(tree)}
	negated := false
	var args []gen.IExpressionContext
	switch t := tree.(type) {
	case *gen.AtomExpressionContext:
		return b.atom(t.Atom(), n)
	case *gen.ExistsExpressionContext:
		n.op = sqlExists
		return n, n.setName(t.Identifier().GetText())
	case *gen.UnaryLogicExpressionContext:
		n.op, args = sqlNot, append(args, t.Expression())
	case *gen.UnaryNumericExpressionContext:
		n.op, args = sqlNegate, append(args, t.Expression())
	case *gen.LikeExpressionContext:
		pattern, err := unquote(t.StringLiteral().GetText())
		if err != nil {
			return n, err
		}
		n.op, n.like, negated = sqlLike, compileLike(pattern), t.NOT() != nil
		args = append(args, t.Expression())
	case *gen.InExpressionContext:
		n.op, negated = sqlIn, t.NOT() != nil
		args = append(append(args, t.Expression()), t.SetExpression().(*gen.SetExpressionContext).AllExpression()...)
	case *gen.BinaryMultiplicativeExpressionContext:
		n.op, args = multiplicative(t), t.AllExpression()
	case *gen.BinaryAdditiveExpressionContext:
		if n.op = sqlSubtract; t.PLUS() != nil {
			n.op = sqlAdd
		}
		args = t.AllExpression()
	case *gen.BinaryComparisonExpressionContext:
		n.op, args = comparison(t), t.AllExpression()
	case *gen.BinaryLogicExpressionContext:
		n.op, args = logic(t), t.AllExpression()
	case *gen.FunctionInvocationExpressionContext:
		args = t.FunctionParameterList().(*gen.FunctionParameterListContext).AllExpression()
		name := strings.ToUpper(t.FunctionIdentifier().GetText())
		n.op, n.fn = sqlCall, findFunction(name, len(args))
		switch {
		case name == verifyName && b.keys == nil:
			return n, errNoKeys
		case n.fn == nil:
			return n, fmt.Errorf("no function %s with %d arguments", name, len(args))
		case n.fn.id == fnVerify:
			n.keys = b.keys
		}
	default:
		return n, fmt.Errorf("expression %q is not supported", n.source)
	}
	for _, arg := range args {
		kid, err := b.build(arg)
		if err != nil {
			return n, err
		}
		n.args = append(n.args, kid)
	}
	if negated {
		b.nodes++
		n = sqlNode{op: sqlNot, args: []sqlNode{n}, source: n.source}
	}
	return n, nil
}

func (b *sqlBuilder) atom(tree gen.IAtomContext, n sqlNode) (sqlNode, error) {
	switch t := tree.(type) {
	case *gen.BooleanAtomContext:
		n.literal = booleanValue(t.BooleanLiteral().(*gen.BooleanLiteralContext).TRUE() != nil)
	case *gen.IntegerAtomContext:
		i, err := strconv.ParseInt(t.GetText(), 10, 32)
		if err != nil {
			return n, fmt.Errorf("integer %s does not fit 32 bits", clip(t.GetText()))
		}
		n.literal = integerValue(int32(i))
	case *gen.StringAtomContext:
		s, err := unquote(t.GetText())
		if err != nil {
			return n, err
		}
		n.literal = stringValue(s)
	case *gen.IdentifierAtomContext:
		n.op = sqlAttribute
		return n, n.setName(t.GetText())
	default:
		return n, fmt.Errorf("operand %q is not supported", n.source)
	}
	return n, nil
}

// setName takes an identifier. CESQL (1.0, 2.2) ignores its case; attribute
// names are lower case.
func (n *sqlNode) setName(identifier string) error {
	n.name = strings.ToLower(identifier)
	if !validName(n.name) {
		return fmt.Errorf("%q is not an attribute name", clip(identifier))
	}
	n.core = isCore(n.name)
	return nil
}

// source is the text of a subtree as its author wrote it.
func (b *sqlBuilder) source(tree gen.IExpressionContext) string {
	ctx, ok := tree.(antlr.ParserRuleContext)
	if !ok || ctx.GetStart() == nil || ctx.GetStop() == nil {
		return ""
	}
	from, to := ctx.GetStart().GetStart(), ctx.GetStop().GetStop()+1
	if from < 0 || to > len(b.text) || from > to {
		return ""
	}
	return string(b.text[from:to])
}

// unquote takes the quotes off a literal, and the backslash off each quote of
// the same kind inside it. Other backslashes stay: LIKE has its own use for them.
func unquote(literal string) (string, error) {
	if len(literal) < 2 {
		return "", fmt.Errorf("unfinished string %s", literal)
	}
	quote := literal[:1]
	return strings.ReplaceAll(literal[1:len(literal)-1], `\`+quote, quote), nil
}

func multiplicative(t *gen.BinaryMultiplicativeExpressionContext) sqlOp {
	switch {
	case t.STAR() != nil:
		return sqlMultiply
	case t.MODULE() != nil:
		return sqlModulo
	}
	return sqlDivide
}

func comparison(t *gen.BinaryComparisonExpressionContext) sqlOp {
	switch {
	case t.LESS() != nil:
		return sqlLess
	case t.LESS_OR_EQUAL() != nil:
		return sqlLessOrEqual
	case t.GREATER() != nil:
		return sqlGreater
	case t.GREATER_OR_EQUAL() != nil:
		return sqlGreaterOrEqual
	case t.EQUAL() != nil:
		return sqlEqual
	}
	return sqlNotEqual
}

func logic(t *gen.BinaryLogicExpressionContext) sqlOp {
	switch {
	case t.AND() != nil:
		return sqlAnd
	case t.OR() != nil:
		return sqlOr
	}
	return sqlXor
}

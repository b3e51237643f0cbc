/** The YAML editor: CodeMirror with completion by the policy's schema and findings at their lines. Loaded by the policy view only. */
import { autocompletion, completionKeymap, type CompletionContext, type CompletionResult } from '@codemirror/autocomplete'
import { defaultKeymap, history, historyKeymap } from '@codemirror/commands'
import { yaml } from '@codemirror/lang-yaml'
import { bracketMatching, indentOnInput } from '@codemirror/language'
import { lintGutter, lintKeymap, setDiagnostics, type Diagnostic } from '@codemirror/lint'
import { EditorState } from '@codemirror/state'
import { EditorView, keymap, lineNumbers } from '@codemirror/view'

import type { Offers } from '../policy/completion'
import type { Finding } from '../policy/text'
import { highlighting, look } from './look'
import { shadowOf } from './shadow'

export interface EditorOptions {
  text: string
  label: string
  readOnly: boolean
  onchange(text: string): void
  /** What may be written at the end of this text. */
  offers(before: string): Offers
}

export interface Editor {
  setText(text: string): void
  setFindings(findings: readonly Finding[]): void
  destroy(): void
}

export function createEditor(parent: HTMLElement, options: EditorOptions): Editor {
  const view = new EditorView({
    parent: shadowOf(parent),
    state: EditorState.create({
      doc: options.text,
      extensions: [
        lineNumbers(), history(), indentOnInput(), bracketMatching(), yaml(), lintGutter(), look, highlighting,
        autocompletion({ override: [(context) => complete(context, options)], icons: false }),
        // Tab leaves the editor, as everywhere on the page (WCAG 2.1.2).
        keymap.of([...completionKeymap, ...lintKeymap, ...historyKeymap, ...defaultKeymap]),
        EditorView.contentAttributes.of({ 'aria-label': options.label, spellcheck: 'false' }),
        EditorState.readOnly.of(options.readOnly),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) options.onchange(update.state.doc.toString())
        }),
      ],
    }),
  })
  return {
    setText(text) {
      if (text === view.state.doc.toString()) return
      view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } })
    },
    setFindings(findings) {
      view.dispatch(setDiagnostics(view.state, findings.map((finding) => diagnostic(view.state, finding))))
    },
    destroy() {
      view.destroy()
    },
  }
}

function diagnostic(state: EditorState, finding: Finding): Diagnostic {
  const line = state.doc.line(Math.min(Math.max(1, finding.line), state.doc.lines))
  const indent = line.text.length - line.text.trimStart().length
  return { from: line.from + indent, to: line.to, severity: finding.severity, message: finding.message, source: finding.field }
}

function complete(context: CompletionContext, options: EditorOptions): CompletionResult | null {
  const before = context.state.sliceDoc(0, context.pos)
  const { word, offers } = options.offers(before)
  if (offers.length === 0 || (word === '' && !context.explicit)) return null
  return {
    from: context.pos - word.length,
    options: offers.map((offer) => ({ label: offer.label, detail: offer.detail })),
    validFor: /^[\w=-]*$/,
  }
}

/** The theme: the system's, or the one that was chosen in this browser. */

export const THEMES = ['system', 'light', 'dark'] as const
export type Theme = (typeof THEMES)[number]
const KEY = 'warren.theme'

class ThemeChoice {
  #chosen = $state<Theme>('system')

  constructor() {
    const stored = localStorage.getItem(KEY)
    this.choose(THEMES.find((it) => it === stored) ?? 'system')
  }

  get chosen(): Theme {
    return this.#chosen
  }

  choose(theme: Theme): void {
    this.#chosen = theme
    localStorage.setItem(KEY, theme)
    if (theme === 'system') delete document.documentElement.dataset.theme
    else document.documentElement.dataset.theme = theme
  }
}

export const theme = new ThemeChoice()

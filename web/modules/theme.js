// Light, dark, or as the system says.

const THEMES = ['auto', 'light', 'dark'];
const KEY = 'theme';

/** Makes a button go round the themes, and keeps the choice. */
export function initTheme(button) {
  let theme = kept() ?? 'auto';
  const show = () => {
    document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
  };
  button.addEventListener('click', () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    keep(theme);
    show();
  });
  show();
}

// Browsers that were told to keep nothing of a page throw at the very name.

function kept() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return undefined;
  }
}

function keep(theme) {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // The theme then lasts as long as the page.
  }
}
